"""Points sampled from predicted surface embeddings, all with the same chance."""

from torch import nn

from detectron2.config import CfgNode

from .densepose_cse_base import DensePoseCSEBaseSampler
from .densepose_uniform import DensePoseUniformSampler

__all__ = ["DensePoseCSEUniformSampler"]


class DensePoseCSEUniformSampler(DensePoseCSEBaseSampler, DensePoseUniformSampler):
    """Choose pixels of the body with the same chance.

    Args:
        cfg: names the mesh of each class.
        use_gt_categories: take the class of the data set instead of the predicted one.
        embedder: gives the embeddings of the vertices of a mesh.
        count_per_class: points of each instance, at most.
    """

    def __init__(
        self, cfg: CfgNode, use_gt_categories: bool, embedder: nn.Module, count_per_class: int = 8
    ) -> None:
        super().__init__(cfg, use_gt_categories, embedder, count_per_class)
