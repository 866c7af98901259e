"""Choice of the best boxes with shapes that do not depend on values: fixed counts, and masks of what is valid.

Both ways to run a model stand on these functions. Eager code drops the invalid rows and puts the rest into
``Instances``; a graph (``torch.export``, ``torch.compile``) carries the masks along.

R boxes, K classes, D = 4 or 5 numbers for each box, k chosen rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.layers import batched_nms, batched_nms_rotated
from detectron2.utils.tracing import smaller

__all__ = ["best_rows", "class_aware_nms_mask", "clip_boxes", "stack_detections", "top_scores"]

# Loses against every score that a network can give, yet stays finite, so that sorting and sums are defined.
LOWEST = -3.0e38


def top_scores(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest entries along the last axis and their places, in descending order.

    Where there are fewer entries: in eager mode all of them; in a graph ``count`` all the same, filled up with
    ``LOWEST`` at place 0, since the number of entries may be symbolic there.
    """
    if not torch.compiler.is_compiling():
        return scores.topk(smaller(count, scores.shape[-1]), dim=-1)
    size = scores.shape[-1]
    values, places = F.pad(scores, (0, count), value=LOWEST).topk(count, dim=-1)
    return values, torch.where(places < size, places, 0)


def clip_boxes(boxes: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
    """Clip XYXY boxes [..., 4] to an image; the size may be numbers or scalars on the boxes' device."""
    x0, y0, x1, y1 = boxes.unbind(dim=-1)
    return torch.stack(
        (
            x0.clamp(min=0).clamp(max=width),
            y0.clamp(min=0).clamp(max=height),
            x1.clamp(min=0).clamp(max=width),
            y1.clamp(min=0).clamp(max=height),
        ),
        dim=-1,
    )


def class_aware_nms_mask(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float
) -> Tensor:
    """Find which of R boxes survive non-maximum suppression within their groups; invalid rows never do.

    Args:
        boxes: [R, 4] XYXY or [R, 5] rotated.
        scores: [R].
        groups: integers [R]; only boxes of one group suppress each other.
        valid: bool [R], rows that take part.
        iou_threshold: IoU above which the lower score goes.

    Returns:
        bool [R].
    """
    if torch.compiler.is_exporting() or not torch.compiler.is_compiling():
        # An exported graph may hold sizes that depend on data; it is better off with ordinary operators.
        return _nms_mask(boxes, scores, groups, valid, iou_threshold)
    return _nms_mask_op(boxes, scores, groups, valid, iou_threshold)


def _nms_mask(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    count = valid.shape[0]
    if torch.compiler.is_exporting():
        # In a graph torchvision's NMS is taken to keep two boxes or more. Two empty ones, which neither suppress nor
        # are suppressed, make that true.
        boxes = F.pad(boxes, (0, 0, 0, 2))
        scores, groups, valid = F.pad(scores, (0, 2)), F.pad(groups, (0, 2)), F.pad(valid, (0, 2), value=True)
    rows = torch.nonzero(valid)[:, 0]
    nms = batched_nms if boxes.shape[-1] == 4 else batched_nms_rotated
    kept = nms(boxes[rows], scores[rows], groups[rows], iou_threshold)
    return torch.zeros_like(valid).index_fill(0, rows[kept], 1)[:count]


# torch.compile splits its graph at operators whose output size depends on data; this one's does not.
@torch.library.custom_op("detectron2::nms_mask", mutates_args=())
def _nms_mask_op(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float
) -> Tensor:
    return _nms_mask(boxes, scores, groups, valid, iou_threshold)


@_nms_mask_op.register_fake
def _nms_mask_fake(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float
) -> Tensor:
    return torch.empty_like(valid)


def best_rows(scores: Tensor, keep: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the places of the ``count`` best of the kept rows in descending order of score, and which of them are
    real.

    Args:
        scores: [R].
        keep: bool [R].
        count: how many; negative = as many as there are rows.

    Returns:
        int64 [k] and bool [k], k as in :func:`top_scores`.
    """
    ranked = torch.where(keep, scores, LOWEST)
    values, rows = top_scores(ranked, count if count >= 0 else scores.shape[0])
    return rows, values > LOWEST


def stack_detections(
    images: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], count: int
) -> dict[str, Tensor]:
    """Stack the detections of N images, filled up to the same count.

    Args:
        images: for each image boxes [k, 4], scores [k], classes [k], and bool [k]: which rows are real; k <= count.
        count: D.

    Returns:
        ``boxes`` [N, D, 4], ``scores`` [N, D], ``classes`` [N, D], and ``valid`` bool [N, D], which is False for empty
        boxes too.
    """
    columns = [
        (boxes, scores, classes, real & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        for boxes, scores, classes, real in images
    ]
    names = ("boxes", "scores", "classes", "valid")
    return {
        name: torch.stack([_fill_up(column, count) for column in values])
        for name, values in zip(names, zip(*columns))
    }


def _fill_up(rows: Tensor, count: int) -> Tensor:
    """Append rows of zeros (or False) until there are ``count``."""
    missing = count - rows.shape[0]
    return torch.cat((rows, rows.new_zeros((missing, *rows.shape[1:])))) if missing > 0 else rows
