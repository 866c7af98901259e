"""Greedy suppression of rotated boxes, from the pairs that overlap too much."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from detectron2.utils.errors import BadValue
from detectron2.utils.tracing import refuse_trace

from .iou import candidate_pairs, pair_iou, prepare, split_pairs

__all__ = ["rotated_nms"]

_ROWS_AT_ONCE = {"cpu": 128, "": 2048}
_PAIRS_AT_ONCE = {"cpu": 1 << 13, "": 1 << 20}


def _candidates(boxes: Tensor, last: Tensor, iou_threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of pairs i < j of one class that may overlap by more than the threshold.

    Args:
        boxes: [N, 6], prepared and sorted by class, then by descending score.
        last: [N] end of the class of each box.
        iou_threshold: the threshold.
    """
    kind = "cpu" if boxes.device.type == "cpu" else ""
    rows = _ROWS_AT_ONCE[kind]
    waiting: list[tuple[Tensor, Tensor]] = []
    ends = [*last[rows - 1 :: rows].tolist(), len(boxes)]
    for start, end in zip(range(0, len(boxes), rows), ends):
        # A block can suppress boxes from its own start to the end of the class of its last box.
        i, j = candidate_pairs(boxes[start : start + rows], boxes[start:end], iou_threshold)
        i, j = i + start, j + start
        wanted = (i < j) & (j < last[i])
        waiting.append((i[wanted], j[wanted]))
        if sum(len(i) for i, _ in waiting) >= _PAIRS_AT_ONCE[kind] or start + rows >= len(boxes):
            firsts, seconds = zip(*waiting)
            waiting = []
            yield from split_pairs(torch.cat(firsts), torch.cat(seconds))


def _overlapping(boxes: Tensor, last: Tensor, iou_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs i < j of one class with IoU above the threshold, sorted by i."""
    first, second = [last[:0]], [last[:0]]
    for i, j in _candidates(boxes, last, iou_threshold):
        over = pair_iou(boxes[i], boxes[j]) > iou_threshold
        first.append(i[over])
        second.append(j[over])
    return torch.cat(first).cpu().numpy(), torch.cat(second).cpu().numpy()


def _greedy(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Go through the boxes by rank; each box that is not suppressed suppresses all that it overlaps."""
    standing = np.ones(count, dtype=bool)
    owners, starts = np.unique(first, return_index=True)
    ends = np.append(starts[1:], len(first))
    for owner, start, end in zip(owners.tolist(), starts.tolist(), ends.tolist()):
        if standing[owner]:
            standing[second[start:end]] = False
    return standing


def _suppress(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    by_score = scores.argsort(descending=True, stable=True)
    order = by_score[idxs[by_score].argsort(stable=True)]
    counts = idxs.unique(return_counts=True)[1]
    last = counts.cumsum(0).repeat_interleave(counts)
    standing = _greedy(len(order), *_overlapping(prepare(boxes.detach()[order]), last, iou_threshold))
    keep = torch.zeros(len(order), dtype=torch.bool, device=boxes.device)
    keep[order] = torch.from_numpy(standing).to(boxes.device)
    return by_score[keep[by_score]]


@torch.library.custom_op("detectron2::nms_rotated", mutates_args=())
def _suppress_op(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return _suppress(boxes, scores, idxs, iou_threshold)


@_suppress_op.register_fake
def _(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty((torch.library.get_ctx().new_dynamic_size(),), dtype=torch.int64)


def rotated_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices kept of [N, 5] boxes with [N] scores and [N] classes, highest score first."""
    if boxes.dim() != 2 or boxes.shape[-1] != 5:
        raise BadValue(f"boxes must be [N, 5] of (xc, yc, w, h, angle), got {tuple(boxes.shape)}")
    refuse_trace("suppression of rotated boxes")
    run = _suppress_op if torch.compiler.is_compiling() else _suppress
    return run(boxes, scores, idxs, float(iou_threshold))
