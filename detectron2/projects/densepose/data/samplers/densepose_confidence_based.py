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

    The smallest deviations ``sigma_1`` and ``sigma_2`` are where the model is most certain. Confidences of
    segmentation are taken from the small end too, as the published animal models were trained.

    Args:
        confidence_channel: ``sigma_1``, ``sigma_2``, ``fine_segm_confidence`` or ``coarse_segm_confidence``.
        count_per_class: points of each chart, at most.
        search_count_multiplier: choose among so many times as many pixels.
        search_proportion: choose among this share of the pixels. Without either, the first ones are taken.

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
                f"the model predicts no {self.confidence_channel!r}: choose another sampler, or a model with it"
            )
        return result.labels.cpu(), torch.cat([result.uv, uncertainty[None]]).cpu()
