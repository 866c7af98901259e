"""Activation functions by name."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from detectron2.utils.errors import BadValue

__all__ = ["activation_function"]

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """Return the function called "relu" or "gelu"."""
    if name not in _FUNCTIONS:
        raise BadValue(f"unknown activation {name!r}; known are {', '.join(_FUNCTIONS)}")
    return _FUNCTIONS[name]
