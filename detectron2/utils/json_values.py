"""Values of NumPy and PyTorch as values of JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["plain"]


def plain(value: object) -> Any:
    """Convert arrays, tensors and numbers of NumPy to Python lists and numbers, at any depth.

    Tuples and sets become lists, bytes become ASCII text, paths become text, and keys of dicts are converted as values
    are. Other values are returned as they are, so that ``json`` names them if it cannot write them.
    """
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("ascii")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    return value
