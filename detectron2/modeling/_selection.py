"""Selection of the best boxes with output shapes that do not depend on values: fixed counts and validity masks.

Eager code and graphs (``torch.export``, ``torch.compile``) share these functions. Eager code drops the invalid rows
and puts the rest into ``Instances``; a graph keeps the masks.

R boxes, K classes, D = 4 or 5 numbers per box, k selected rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.layers import batched_nms, batched_nms_rotated
from detectron2.utils.tracing import is_recording, smaller

__all__ = [
    "best_rows",
    "class_aware_nms_mask",
    "clip_boxes",
    "nms_in_rounds",
    "real_counts",
    "rows_of",
    "rows_of_each",
    "selects_in_rounds",
    "stack_detections",
    "top_scores",
]

NMS = Callable[[Tensor, Tensor, Tensor, float], Tensor]

# Below every score that a network can output, yet finite, so that sorting and sums stay defined.
LOWEST = -3.0e38

# ``nms_in_rounds`` decides so many boxes at a time, each so often.
_BLOCK, _ROUNDS = 256, 24


def top_scores(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest entries along the last axis and their indices, in descending order.

    If there are fewer entries, eager mode returns all of them. A graph, where the number of entries may be symbolic,
    still returns ``count``, padded with ``LOWEST`` at index 0.
    """
    if not torch.compiler.is_compiling():
        return scores.topk(smaller(count, scores.shape[-1]), dim=-1)
    size = scores.shape[-1]
    values, indices = F.pad(scores, (0, count), value=LOWEST).topk(count, dim=-1)
    return values, torch.where(indices < size, indices, 0)


def rows_of(masks: Sequence[Tensor]) -> list[Tensor]:
    """Return the rows at which each mask [R] is True; the host waits for the device once for all of them."""
    # The CPU does not wait, MPS lacks the other operator, and a graph must not remember the counts.
    if not masks or masks[0].device.type in ("cpu", "mps") or is_recording():
        return [torch.nonzero(mask)[:, 0] for mask in masks]
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    return [torch.nonzero_static(mask, size=count)[:, 0] for mask, count in zip(masks, counts)]


def rows_of_each(values: Tensor, rows: Tensor) -> Tensor:
    """Return ``values`` [N, R, D] at ``rows`` [N, k] of each image, [N, k, D]."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))


def selects_in_rounds(boxes: Tensor) -> bool:
    """Return whether tensor forms use :func:`nms_in_rounds` for ``boxes``: on accelerators, outside exported graphs."""
    exports = torch.compiler.is_exporting() or torch.jit.is_tracing()
    return boxes.device.type != "cpu" and boxes.shape[-1] == 4 and not exports


def clip_boxes(boxes: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
    """Clip XYXY boxes [..., 4] to an image; its size is given as numbers or as scalars on the boxes' device."""
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
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    valid: Tensor | None,
    iou_threshold: float,
    nms: NMS | None = None,
) -> Tensor:
    """Find which boxes survive non-maximum suppression within their groups; invalid rows never do.

    Args:
        boxes: [R, 4] XYXY or [R, 5] rotated.
        scores: [R].
        groups: integers [R]; only boxes of one group suppress each other.
        valid: bool [R], rows that take part; None = all, which saves a wait for the device.
        iou_threshold: IoU above which the box with the lower score is removed.
        nms: used outside compiled graphs in place of :func:`.batched_nms`.

    Returns:
        bool [R].
    """
    if valid is None:
        suppress = nms or _nms_for(boxes)
        kept = suppress(boxes, scores, groups, iou_threshold)
        return torch.zeros_like(scores, dtype=torch.bool).index_fill(0, kept, 1)
    if torch.compiler.is_exporting() or not torch.compiler.is_compiling():
        # An exported graph may contain data-dependent sizes, so it can keep the ordinary operators.
        return _nms_mask(boxes, scores, groups, valid, iou_threshold, nms)
    return _nms_mask_op(boxes, scores, groups, valid, iou_threshold)


def _nms_for(boxes: Tensor) -> NMS:
    return batched_nms if boxes.shape[-1] == 4 else batched_nms_rotated


def _nms_mask(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    valid: Tensor,
    iou_threshold: float,
    nms: NMS | None = None,
) -> Tensor:
    count = valid.shape[0]
    if torch.compiler.is_exporting():
        # torch.export assumes that torchvision's NMS keeps at least two boxes. Two empty ones, which neither suppress
        # nor are suppressed, make that true.
        boxes = F.pad(boxes, (0, 0, 0, 2))
        scores, groups, valid = F.pad(scores, (0, 2)), F.pad(groups, (0, 2)), F.pad(valid, (0, 2), value=True)
    rows = torch.nonzero(valid)[:, 0]
    suppress = nms or _nms_for(boxes)
    kept = suppress(boxes[rows], scores[rows], groups[rows], iou_threshold)
    return torch.zeros_like(valid).index_fill(0, rows[kept], 1)[:count]


# torch.compile breaks its graph at operators with data-dependent output sizes; this operator has a fixed one.
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


def nms_in_rounds(boxes: Tensor, valid: Tensor, iou_threshold: float, groups: Tensor | None = None) -> Tensor:
    """Find which boxes survive non-maximum suppression by a fixed number of operators, so that no host waits for it.

    Blocks of 256 boxes are decided one after the other. A box of a block is decided anew in each of 24 rounds, from
    the decisions of those that overlap it. This is exact unless a block has a chain of more than 24 boxes, each of
    which hangs on the one before; of such a chain, too many boxes may be kept. The IoU is computed in float32.

    Args:
        boxes: [G, R, 4] XYXY, in descending order of score; the G sets do not affect each other.
        valid: bool [G, R], rows that take part.
        iou_threshold: IoU above which the box with the lower score is removed.
        groups: integers [G, R]; only boxes of one group suppress each other; None = all of a set.

    Returns:
        bool [G, R].
    """
    keep = valid
    for start in range(0, boxes.shape[1], _BLOCK):
        block = boxes[:, start : start + _BLOCK]
        end = start + block.shape[1]
        over = _pairwise_iou(block, boxes[:, start:]) > iou_threshold  # [G, block, R - start]
        if groups is not None:
            over = over & (groups[:, start:end, None] == groups[:, None, start:])
        better = over[:, :, : end - start].triu(diagonal=1)
        before = kept = keep[:, start:end]
        for _ in range(_ROUNDS):
            kept = before > (better & kept[:, :, None]).any(dim=1)
        lost = (over[:, :, end - start :] & kept[:, :, None]).any(dim=1)
        keep = torch.cat((keep[:, :start], kept, keep[:, end:] > lost), dim=1)
    return keep


def _pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the IoU [G, m, n] of boxes [G, m, 4] and [G, n, 4] in float32; NaN if both are empty."""
    a, b = a.float()[:, :, None], b.float()[:, None]
    width = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    height = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    inter = width.clamp(min=0) * height.clamp(min=0)
    area_a, area_b = ((x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b))
    return inter / (area_a + area_b - inter)


def best_rows(scores: Tensor, keep: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the indices of the ``count`` best kept rows, in descending order of score, and a mask of the real ones.

    Args:
        scores: [R].
        keep: bool [R].
        count: how many rows to return; negative = R.

    Returns:
        int64 [k] and bool [k], k as in :func:`top_scores`.
    """
    ranked = torch.where(keep, scores, LOWEST)
    values, rows = top_scores(ranked, count if count >= 0 else scores.shape[0])
    return rows, values > LOWEST


def real_counts(masks: Sequence[Tensor]) -> list[int]:
    """Return how many rows of each result of :func:`best_rows` are real; the host waits for the device once.

    A graph gets tensors, which end a slice as well as numbers do, so that it does not remember the counts.
    """
    if not masks:
        return []
    counts = torch.stack([mask.sum() for mask in masks])
    return list(counts) if is_recording() else counts.tolist()  # type: ignore[arg-type]


def stack_detections(
    images: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], count: int
) -> dict[str, Tensor]:
    """Stack the detections of N images, padded to the same count.

    Args:
        images: for each image boxes [k, 4], or [k, 5] rotated ones, scores [k], classes [k], and bool [k]: which rows
            are real; k <= count.
        count: number of rows after padding, D below.

    Returns:
        ``boxes`` [N, D, 4], ``scores`` [N, D], ``classes`` [N, D], and ``valid`` bool [N, D], which is False for empty
        boxes too.
    """
    columns = [
        (boxes, scores, classes, real & (_sides(boxes) > 0).all(dim=1))
        for boxes, scores, classes, real in images
    ]
    names = ("boxes", "scores", "classes", "valid")
    return {
        name: torch.stack([_pad_rows(column, count) for column in values])
        for name, values in zip(names, zip(*columns))
    }


def _sides(boxes: Tensor) -> Tensor:
    """Return width and height [R, 2] of XYXY or rotated boxes."""
    return boxes[:, 2:4] - boxes[:, :2] if boxes.shape[-1] == 4 else boxes[:, 2:4]


def _pad_rows(rows: Tensor, count: int) -> Tensor:
    """Append rows of zeros (or False) until there are ``count``."""
    missing = count - rows.shape[0]
    return torch.cat((rows, rows.new_zeros((missing, *rows.shape[1:])))) if missing > 0 else rows
