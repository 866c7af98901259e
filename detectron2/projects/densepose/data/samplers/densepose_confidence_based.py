"""Points sampled from predicted charts where the model is certain."""

import torch
from torch import Tensor

from detectron2.structures import Instances

from ...converters.to_chart_result import ToChartResultConverterWithConfidences
from .choice import check_search, choose_smallest
from .densepose_base import DensePoseBaseSampler

__all__ = ["DensePoseConfidenceBasedSampler"]


class DensePoseConfidenceBasedSampler(DensePoseBaseSampler):
    """Choose among the pixels of each chart with the smallest values of one channel.

    The model is most certain where the deviations ``sigma_1`` and ``sigma_2`` are smallest. Confidences of segmentation
    are also chosen from the small end, as in the training of the published animal models.

    Args:
        confidence_channel: ``sigma_1``, ``sigma_2``, ``fine_segm_confidence`` or ``coarse_segm_confidence``.
        count_per_class: largest number of points per chart.
        search_count_multiplier: choose among this many times the number of chosen pixels.
        search_proportion: choose among this fraction of the pixels. Without either, the first ones are taken.

    Raises:
        ValueError: both rules are given.
    """

    def __init__(
        self,
        confidence_channel: str,
        count_per_class: int = 8,
        search_count_multiplier: float | None = None,
        search_proportion: float | None = None,
    ) -> None:
        super().__init__(count_per_class)
        check_search(search_count_multiplier, search_proportion)
        self.confidence_channel = confidence_channel
        self.search_count_multiplier = search_count_multiplier
        self.search_proportion = search_proportion

    def _produce_index_sample(self, values: Tensor, count: int) -> Tensor:
        return choose_smallest(values[2], count, self.search_count_multiplier, self.search_proportion)

    def _produce_labels_and_results(self, instance: Instances) -> tuple[Tensor, Tensor]:
        result = ToChartResultConverterWithConfidences.convert(instance.pred_densepose, instance.pred_boxes)
        uncertainty = getattr(result, self.confidence_channel)
        if uncertainty is None:
            raise ValueError(
                f"the model does not predict {self.confidence_channel!r}: use another sampler or a model that predicts it"
            )
        return result.labels.cpu(), torch.cat([result.uv, uncertainty[None]]).cpu()
