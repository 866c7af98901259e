"""Activations by the names that configs have for them."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from detectron2.utils.errors import BadValue

__all__ = ["activation_function"]

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """Return the function called "relu" or "gelu"."""
    if name not in _FUNCTIONS:
        raise BadValue(f"no activation named {name!r}; there are {', '.join(_FUNCTIONS)}")
    return _FUNCTIONS[name]
