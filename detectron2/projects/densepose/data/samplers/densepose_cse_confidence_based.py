"""Points sampled from predicted surface embeddings where the model is certain."""

from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ...converters.base import IntTupleBox
from .choice import check_search, choose_smallest
from .densepose_cse_base import DensePoseCSEBaseSampler, resample_to_box

__all__ = ["DensePoseCSEConfidenceBasedSampler"]


class DensePoseCSEConfidenceBasedSampler(DensePoseCSEBaseSampler):
    """Choose among the most certain pixels of the body.

    Args:
        cfg: config with the mesh of each class.
        use_gt_categories: use the class of the dataset instead of the predicted one.
        embedder: returns the vertex embeddings of a mesh.
        confidence_channel: output that is largest where the model is most certain, ``coarse_segm_confidence``.
        count_per_class: largest number of points per instance.
        search_count_multiplier: choose among this many times the number of chosen pixels.
        search_proportion: choose among this fraction of the pixels. Without either, the most certain ones are taken.

    Raises:
        ValueError: both rules are given.
    """

    def __init__(
        self,
        cfg: CfgNode,
        use_gt_categories: bool,
        embedder: nn.Module,
        confidence_channel: str,
        count_per_class: int = 8,
        search_count_multiplier: float | None = None,
        search_proportion: float | None = None,
    ) -> None:
        super().__init__(cfg, use_gt_categories, embedder, count_per_class)
        check_search(search_count_multiplier, search_proportion)
        self.confidence_channel = confidence_channel
        self.search_count_multiplier = search_count_multiplier
        self.search_proportion = search_proportion

    def _produce_index_sample(self, values: Tensor, count: int) -> Tensor:
        return choose_smallest(-values[0], count, self.search_count_multiplier, self.search_proportion)

    def _produce_mask_and_results(
        self, instance: Instances, bbox_xywh: IntTupleBox
    ) -> tuple[Tensor, Tensor, Tensor]:
        mask, embeddings, _ = super()._produce_mask_and_results(instance, bbox_xywh)
        uncertainty = getattr(instance.pred_densepose, self.confidence_channel)
        return mask, embeddings, resample_to_box(uncertainty, bbox_xywh)
