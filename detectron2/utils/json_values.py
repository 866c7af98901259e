"""Convert NumPy and PyTorch values for JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["plain"]


def plain(value: object) -> Any:
    """Convert arrays, tensors and NumPy numbers to Python lists and numbers, at any depth.

    Tuples and sets become lists, bytes ASCII text, and paths text; keys of dicts are converted like values. Other values
    are returned unchanged, so that ``json`` reports those that it cannot write.
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
