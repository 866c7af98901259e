"""Base of the outputs of all predictors: records of tensors with one row per instance."""

from collections.abc import Callable
from dataclasses import field, fields, make_dataclass
from functools import cache

import torch
from torch import Tensor
from typing_extensions import Self

__all__ = ["PredictorOutput", "with_confidences"]


class PredictorOutput:
    """Base of dataclasses whose fields are tensors [N, ...], or None."""

    coarse_segm: Tensor

    def __len__(self) -> int:
        return self.coarse_segm.size(0)

    def __getitem__(self, item: int | slice | Tensor) -> Self:
        """Return some of the instances (slice, mask or indices); an integer selects one and keeps the dimension."""
        rows = slice(item, item + 1 or None) if isinstance(item, int) else item
        return self._map(lambda tensor: tensor[rows])

    def to(self, device: torch.device) -> Self:
        """Return the same values on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{k: v if v is None else function(v) for k, v in values.items()})


@cache
def with_confidences(base: type, names: tuple[str, ...]) -> type:
    """Derive an output class with further fields, None by default; the same class for each call.

    Args:
        base: a dataclass.
        names: fields to add.
    """
    added = [(name, Tensor | None, field(default=None)) for name in names]
    return make_dataclass(base.__name__ + "WithConfidences", added, bases=(base,))
