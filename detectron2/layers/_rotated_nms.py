"""Greedy suppression over the pairs of rotated boxes that overlap too much."""

import numpy as np
import torch
from torch import Tensor

from ._rotated_iou import candidate_pairs, pair_iou

__all__ = ["rotated_nms"]

_ROWS_AT_ONCE = 2048
_PAIRS_AT_ONCE = 1 << 18


def _conflicts(boxes: Tensor, idxs: Tensor, iou_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs i < j of one class with IoU above the threshold, sorted by i."""
    first, second = [], []
    for start in range(0, len(boxes), _ROWS_AT_ONCE):
        # Only boxes behind the first of this block can be suppressed by it.
        i, j = candidate_pairs(boxes[start : start + _ROWS_AT_ONCE], boxes[start:])
        i, j = i + start, j + start
        wanted = (i < j) & (idxs[i] == idxs[j])
        for p, q in zip(i[wanted].split(_PAIRS_AT_ONCE), j[wanted].split(_PAIRS_AT_ONCE)):
            over = pair_iou(boxes[p], boxes[q]) > iou_threshold
            first.append(p[over])
            second.append(q[over])
    if not first:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return torch.cat(first).cpu().numpy(), torch.cat(second).cpu().numpy()


def _greedy(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Walk down the ranks; a box still standing removes all that it conflicts with."""
    standing = np.ones(count, dtype=bool)
    owners, starts = np.unique(first, return_index=True)
    ends = np.append(starts[1:], len(first))
    for owner, start, end in zip(owners.tolist(), starts.tolist(), ends.tolist()):
        if standing[owner]:
            standing[second[start:end]] = False
    return standing


def _suppress(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    dtype = torch.float32 if boxes.device.type == "mps" else torch.float64
    order = scores.argsort(descending=True, stable=True)
    ranked = boxes.detach()[order].to(dtype)
    standing = _greedy(len(order), *_conflicts(ranked, idxs[order], iou_threshold))
    return order[torch.from_numpy(standing).to(order.device)]


@torch.library.custom_op("detectron2::nms_rotated", mutates_args=())
def _suppress_op(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return _suppress(boxes, scores, idxs, iou_threshold)


@_suppress_op.register_fake
def _(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty((torch.library.get_ctx().new_dynamic_size(),), dtype=torch.int64)


def rotated_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Indices kept of [N, 5] boxes with [N] scores and [N] classes, highest score first."""
    if boxes.dim() != 2 or boxes.shape[-1] != 5:
        raise ValueError(f"boxes must be [N, 5] of (xc, yc, w, h, angle), got {tuple(boxes.shape)}")
    run = _suppress_op if torch.compiler.is_compiling() else _suppress
    return run(boxes, scores, idxs, float(iou_threshold))
