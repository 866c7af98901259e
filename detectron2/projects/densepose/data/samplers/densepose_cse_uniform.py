"""Points sampled from predicted surface embeddings, uniformly at random."""

from torch import nn

from detectron2.config import CfgNode

from .densepose_cse_base import DensePoseCSEBaseSampler
from .densepose_uniform import DensePoseUniformSampler

__all__ = ["DensePoseCSEUniformSampler"]


class DensePoseCSEUniformSampler(DensePoseCSEBaseSampler, DensePoseUniformSampler):
    """Choose pixels of the body uniformly at random.

    Args:
        cfg: config with the mesh of each class.
        use_gt_categories: use the class of the dataset instead of the predicted one.
        embedder: returns the vertex embeddings of a mesh.
        count_per_class: largest number of points per instance.
    """

    def __init__(
        self, cfg: CfgNode, use_gt_categories: bool, embedder: nn.Module, count_per_class: int = 8
    ) -> None:
        super().__init__(cfg, use_gt_categories, embedder, count_per_class)
