"""Selection of an image's detections from the class scores and boxes of its proposals.

R proposals, K classes, D = 4 or 5 numbers per box, k detections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detectron2.layers.soft_nms import SoftNMS
from detectron2.structures import Boxes, Instances

from .._selection import (
    LOWEST,
    best_rows,
    class_aware_nms_mask,
    clip_boxes,
    nms_in_rounds,
    real_counts,
    rows_of_each,
    top_scores,
)

Clip = Callable[[Tensor, Any, Any], Tensor]

# ``select_in_rounds`` compares so many candidates of an image.
_MOST_CANDIDATES = 2048


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    image_size: tuple[Any, Any],
    score_thresh: float,
    nms_thresh: float,
    topk: int,
    clip: Clip = clip_boxes,
    box_dim: int = 4,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Select the best ``topk`` pairs of proposal and class after a threshold and class-wise NMS.

    Args:
        boxes: [R, K * D], or [R, D] if all classes share a box.
        scores: [R, K + 1]; the last column, background, is ignored.
        image_size: height and width to which boxes are clipped.
        score_thresh: scores must be higher.
        nms_thresh: IoU threshold of NMS.
        topk: largest number of detections; negative = no limit.
        clip: called with boxes [.., D], height and width.
        box_dim: D.
        valid: bool [R], proposals that are real; None = all.

    Returns:
        Boxes [k, D], scores [k], classes [k], proposal indices [k], and bool [k]: which rows are real.
    """
    finite = boxes.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
    if valid is not None:
        finite = finite & valid
    scores = scores[:, :-1]
    num_classes = scores.shape[1]
    per_class = torch.where(finite[:, None], boxes, 0.0).reshape(
        boxes.shape[0], boxes.shape[1] // box_dim, box_dim
    )  # [R, K or 1, D]
    candidates = (scores > score_thresh) & finite[:, None]  # [R, K]
    if torch.compiler.is_compiling():
        flat = clip(per_class.expand(-1, num_classes, -1).reshape(-1, box_dim), *image_size)
        rows = torch.arange(flat.shape[0], device=flat.device)
        kept: Tensor | None = candidates.flatten()
    else:  # NMS on the few candidates above the threshold is cheaper than on all R * K with a mask
        rows = torch.nonzero(candidates.flatten())[:, 0]
        shared = per_class.shape[1] == 1
        where = torch.div(rows, num_classes, rounding_mode="floor") if shared else rows
        flat = clip(per_class.reshape(-1, box_dim)[where], *image_size)
        kept = None
    score = scores.flatten()[rows]
    classes = rows % num_classes
    keep = class_aware_nms_mask(flat, score, classes, kept, nms_thresh)
    best, real = best_rows(score, keep, topk)
    proposal = torch.div(rows[best], num_classes, rounding_mode="floor")
    return flat[best] * real[:, None], score[best] * real, classes[best], proposal, real


def select_in_rounds(
    boxes: Tensor,
    scores: Tensor,
    sizes: Sequence[tuple[Any, Any]],
    options: tuple[float, float, int],
    real: Tensor,
    clip: Clip = clip_boxes,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Select detections of N images as :func:`select_detections`, without a wait for the device.

    The best 2048 pairs of proposal and class of each image enter NMS, see :func:`.nms_in_rounds`. The result differs
    only if fewer than ``topk`` of them survive.

    Args:
        boxes: [N, P, K * 4] or [N, P, 4].
        scores: [N, P, K + 1].
        sizes: height and width of each image.
        options: score_thresh, nms_thresh and topk.
        real: bool [N, P], proposals that are real.
        clip: called with boxes [.., 4], height and width.

    Returns:
        Boxes [N, k, 4], scores [N, k], classes [N, k] and bool [N, k]: which rows are real.
    """
    score_thresh, nms_thresh, topk = options
    finite = boxes.isfinite().all(dim=2) & scores.isfinite().all(dim=2) & real
    scores = scores[..., :-1]
    num_classes = scores.shape[2]
    candidates = (scores > score_thresh) & finite[..., None]
    best, pairs = top_scores(torch.where(candidates, scores, LOWEST).flatten(1), _MOST_CANDIDATES)
    classes = pairs % num_classes
    shared = boxes.shape[2] == 4
    rows = torch.div(pairs, num_classes, rounding_mode="floor") if shared else pairs
    all_boxes = (
        torch.where(finite[..., None], boxes, 0.0).flatten(1).unflatten(1, (-1, 4))
    )  # [N, P * (K or 1), 4]
    chosen = rows_of_each(all_boxes, rows)
    chosen = torch.stack([clip(b, *size) for b, size in zip(chosen, sizes)])
    keep = nms_in_rounds(chosen, best > LOWEST, nms_thresh, classes)
    rows, kept = best_rows(best, keep, topk)
    found = rows_of_each(chosen, rows) * kept[..., None]
    return found, best.gather(1, rows) * kept, classes.gather(1, rows), kept


def detections_as_instances(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    options: tuple[float, float, int],
    clip: Clip = clip_boxes,
    box_type: Callable[[Tensor], Any] = Boxes,
    box_dim: int = 4,
) -> tuple[list[Instances], list[Tensor]]:
    """Select the detections of each image; return them as Instances, and the indices of their proposals.

    The indices count only proposals whose boxes and scores are finite.
    """
    results, kept = [], []
    chosen = [
        select_detections(b, s, size, *options, clip, box_dim)
        for b, s, size in zip(boxes, scores, image_shapes)
    ]
    counts = real_counts([real for *_, real in chosen])
    for b, s, size, (box, score, classes, proposal, _), count in zip(
        boxes, scores, image_shapes, chosen, counts
    ):
        found = Instances(size)
        found.pred_boxes = box_type(box[:count])
        found.scores = score[:count]
        found.pred_classes = classes[:count]
        results.append(found)
        finite = b.isfinite().all(dim=1) & s.isfinite().all(dim=1)
        kept.append((finite.cumsum(dim=0) - 1)[proposal[:count]])
    return results, kept


def fast_rcnn_inference(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """Select the detections of each image: scores above a threshold, class-wise NMS, the best ``topk_per_image``.

    Args:
        boxes: for each image [R_i, K * 4], or [R_i, 4] if classes share a box.
        scores: for each image [R_i, K + 1], background last.
        image_shapes: height and width of each image.
        score_thresh: scores must be higher.
        nms_thresh: IoU threshold of the class-wise NMS.
        topk_per_image: largest number of detections; negative = no limit.

    Returns:
        For each image, Instances with ``pred_boxes``, ``scores`` and ``pred_classes`` in descending order of score, and
        the indices of their proposals, counting only those that are finite; the others are dropped.
    """
    return detections_as_instances(boxes, scores, image_shapes, (score_thresh, nms_thresh, topk_per_image))


def soft_nms_inference(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    topk_per_image: int,
    soft_nms: SoftNMS,
) -> tuple[list[Instances], list[Tensor]]:
    """Select detections as :func:`fast_rcnn_inference`, with soft-NMS in place of NMS.

    Args:
        boxes, scores, image_shapes, score_thresh, topk_per_image: see there.
        soft_nms: lowers the scores of overlapping boxes.
    """
    results, kept = [], []
    for b, s, size in zip(boxes, scores, image_shapes):
        found, rows = candidates(b, s, size, score_thresh)
        new_scores, keep = soft_nms(found.pred_boxes.tensor, found.scores, found.pred_classes)
        keep = keep[:topk_per_image] if topk_per_image >= 0 else keep
        found = found[keep]
        found.scores = new_scores[: len(keep)]
        results.append(found)
        kept.append(rows[keep])
    return results, kept


def candidates(
    boxes: Tensor, scores: Tensor, image_size: tuple[int, int], score_thresh: float
) -> tuple[Instances, Tensor]:
    """Return all pairs of a proposal and a class whose score exceeds a threshold.

    Args:
        boxes: [R, K * 4] or [R, 4].
        scores: [R, K + 1], background last.
        image_size: height and width to which boxes are clipped.
        score_thresh: scores must be higher.

    Returns:
        The pairs, in the order of the proposals, and the index of the proposal of each, counting only finite ones.
    """
    finite = boxes.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
    boxes, scores = boxes[finite], scores[finite][:, :-1]
    per_class = boxes.unflatten(1, (boxes.shape[1] // 4, 4))
    rows, classes = torch.nonzero(scores > score_thresh, as_tuple=True)
    found = Instances(image_size)
    found.pred_boxes = Boxes(per_class[rows, classes if per_class.shape[1] > 1 else 0].clone())
    found.pred_boxes.clip(image_size)
    found.scores = scores[rows, classes]
    found.pred_classes = classes
    return found, rows


def fast_rcnn_inference_single_image(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """Select the detections of one image, and the indices of their proposals; see :func:`fast_rcnn_inference`."""
    found, kept = fast_rcnn_inference(
        [boxes], [scores], [image_shape], score_thresh, nms_thresh, topk_per_image
    )
    return found[0], kept[0]
