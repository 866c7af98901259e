"""Points sampled from predicted charts, uniformly at random."""

from torch import Tensor

from .choice import choose_uniformly
from .densepose_base import DensePoseBaseSampler

__all__ = ["DensePoseUniformSampler"]


class DensePoseUniformSampler(DensePoseBaseSampler):
    """Choose pixels of each chart uniformly at random.

    Args:
        count_per_class: largest number of points per chart.
    """

    def __init__(self, count_per_class: int = 8) -> None:
        super().__init__(count_per_class)

    def _produce_index_sample(self, values: Tensor, count: int) -> Tensor:
        return choose_uniformly(values.shape[1], count)
