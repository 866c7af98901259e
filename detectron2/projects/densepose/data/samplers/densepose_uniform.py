"""Points sampled from predicted charts, all with the same chance."""

from torch import Tensor

from .choice import choose_uniformly
from .densepose_base import DensePoseBaseSampler

__all__ = ["DensePoseUniformSampler"]


class DensePoseUniformSampler(DensePoseBaseSampler):
    """Choose pixels of each chart with the same chance.

    Args:
        count_per_class: points of each chart, at most.
    """

    def __init__(self, count_per_class: int = 8) -> None:
        super().__init__(count_per_class)

    def _produce_index_sample(self, values: Tensor, count: int) -> Tensor:
        return choose_uniformly(values.shape[1], count)
