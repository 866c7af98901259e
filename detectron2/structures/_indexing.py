"""Helpers of the containers: convert rows, and handle indices of any kind."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectron2.utils.errors import BadIndex, BadValue

__all__ = ["Index", "as_index", "as_rows", "row_slice"]

Index: TypeAlias = int | np.integer | slice | Sequence[int] | npt.NDArray | Tensor
"""An index of entries: an integer of any kind, a slice, a list of integers, or an index or mask array or tensor."""


def as_rows(data: Tensor | npt.ArrayLike, columns: int, owner: str) -> Tensor:
    """Convert ``data`` to an [N, columns] float32 tensor; data without elements become [0, columns].

    Tensors stay on their device; other data go to the CPU.
    """
    if isinstance(data, Tensor):
        rows = data.to(torch.float32)
    else:
        rows = torch.as_tensor(data, dtype=torch.float32, device="cpu")
    # Check the shape first: the number of elements is unknown while a graph is traced.
    if rows.dim() == 2 and rows.shape[1] == columns:
        return rows
    if rows.numel() == 0:
        return rows.reshape(0, columns)
    raise BadValue(f"{owner} expects an [N, {columns}] tensor, got {tuple(rows.shape)}")


def is_single(item: object) -> bool:
    """Return whether an index selects one element: any integer, or a 0-d integer array or tensor."""
    if isinstance(item, (bool, np.bool_)):
        return False
    if isinstance(item, (int, np.integer, torch.SymInt)):
        return True
    if isinstance(item, Tensor):
        return item.dim() == 0 and item.dtype != torch.bool
    return isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype.kind in "iu"


def row_slice(item: Index, length: int) -> Any:
    """Convert a single index to a slice of one element, which keeps the leading dimension; return others unchanged.

    Raises:
        IndexError: if the index is out of range.
    """
    if not is_single(item):
        return item
    i = int(item)  # type: ignore[arg-type]
    if not -length <= i < length:
        raise BadIndex(f"index {i} is out of range for {length} instances")
    i %= length
    return slice(i, i + 1)


def as_index(item: Index, length: int) -> range | list[int]:
    """Return the positions that an index of any kind selects from a list."""
    item = row_slice(item, length)
    if isinstance(item, slice):
        return range(length)[item]
    picks = torch.as_tensor(item)
    if picks.dim() != 1 and picks.numel() > 0:
        raise BadIndex(f"an index of instances must have 1 dimension, got {tuple(picks.shape)}")
    if picks.dtype in (torch.bool, torch.uint8):
        if len(picks) != length:
            raise BadIndex(f"the mask has {len(picks)} entries for {length} instances")
        picks = picks.nonzero()[:, 0]
    chosen = picks.reshape(-1).long().tolist()
    for i in chosen:
        row_slice(i, length)
    return [i % length for i in chosen]
