"""Functions shared by region proposal networks: selecting the best boxes, and appending the ground truth.

N images, A_l predictions on level l, P candidates, k selected, D = 4 or 5 numbers per box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.layers.nms import FEW_GROUPS, nms_of_few_groups
from detectron2.structures import Boxes, Instances
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on
from detectron2.utils.tracing import is_recording

from .._selection import (
    NMS,
    best_rows,
    class_aware_nms_mask,
    clip_boxes,
    nms_in_rounds,
    real_counts,
    rows_of_each,
    top_scores,
)

__all__ = [
    "add_ground_truth_to_proposals",
    "add_ground_truth_to_proposals_single_image",
    "find_top_rpn_proposals",
]

__getattr__ = passed_on(__name__)

# The logit of 1 - 1e-10: ground truth is appended as if the RPN were almost certain of it.
_GROUND_TRUTH_LOGIT = math.log((1.0 - 1e-10) / 1e-10)

# More boxes than this would go through NMS class by class on an accelerator, see ``batched_nms``.
_NMS_AT_ONCE = 40_000

Clip = Callable[[Tensor, Any, Any], Tensor]


def gather_candidates(
    proposals: Sequence[Tensor], logits: Sequence[Tensor], pre_nms_topk: int
) -> tuple[Tensor, Tensor, list[int]]:
    """Select the ``pre_nms_topk`` best predictions of each level, for every image.

    Args:
        proposals: boxes [N, A_l, D] for each level.
        logits: [N, A_l] for each level.
        pre_nms_topk: number of predictions per level.

    Returns:
        Boxes [N, P, D] and logits [N, P], level after level, and the number of candidates of each level.
    """
    boxes, scores, counts = [], [], []
    for b, s in zip(proposals, logits):
        best, indices = top_scores(s, pre_nms_topk)  # [N, k]
        boxes.append(rows_of_each(b, indices))
        scores.append(best)
        counts.append(best.shape[1])
    return torch.cat(boxes, dim=1), torch.cat(scores, dim=1), counts


def suppress_candidates(
    boxes: Tensor,
    logits: Tensor,
    counts: Sequence[int],
    image_sizes: Sequence[tuple[Any, Any]],
    nms_thresh: float,
    post_nms_topk: int,
    min_box_size: float,
    clip: Clip = clip_boxes,
    in_rounds: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Clip the candidates of N images, drop non-finite and small ones, apply NMS and keep the best of each image.

    One NMS takes many images at once, since an accelerator waits for each; a graph has one for each image.

    Args:
        boxes: [N, P, D].
        logits: [N, P].
        counts: number of candidates of each level, P in total; those of different levels do not suppress each other.
        image_sizes: height and width of each image.
        nms_thresh: IoU threshold of NMS.
        post_nms_topk: how many to keep.
        min_box_size: sides must be longer than this many pixels.
        clip: called with boxes, height and width.
        in_rounds: use :func:`nms_in_rounds`, for which the host does not wait. Each level must be in descending order.

    Returns:
        Boxes [N, k, D] and logits [N, k] in descending order of the logits, and bool [N, k]: which rows are real. The
        other boxes are zero.
    """
    finite = boxes.isfinite().all(dim=-1) & logits.isfinite() & (logits > -1e38)
    boxes = torch.where(finite[..., None], boxes, 0.0)
    boxes = torch.stack([clip(b, *size) for b, size in zip(boxes, image_sizes)])
    sides = boxes[..., 2:4] - boxes[..., :2] if boxes.shape[-1] == 4 else boxes[..., 2:4]
    valid = finite & (sides > min_box_size).all(dim=-1)
    if in_rounds:
        keep = _keep_in_rounds(boxes, valid, counts, nms_thresh)
    else:
        step = 1 if is_recording() else max(1, _NMS_AT_ONCE // max(boxes.shape[1], 1))
        nms = None
        if clip is clip_boxes and _suits_float32(boxes, len(counts), image_sizes, nms_thresh):
            step, nms = min(step, FEW_GROUPS // len(counts)), nms_of_few_groups
        parts = zip(boxes.split(step), logits.split(step), valid.split(step))
        keep = torch.cat([_keep(b, s, v, counts, nms_thresh, nms) for b, s, v in parts])
    rows, real = best_rows(logits, keep, post_nms_topk)
    chosen = rows_of_each(boxes, rows)
    return chosen * real[..., None], logits.gather(1, rows), real


def _suits_float32(
    boxes: Tensor, levels: int, image_sizes: Sequence[tuple[int, int]], nms_thresh: float
) -> bool:
    """Tell whether to use :func:`.nms_of_few_groups`: on accelerators, for upright boxes in ordinary images."""
    if boxes.device.type == "cpu" or boxes.shape[-1] != 4 or is_recording():
        return False
    return levels <= FEW_GROUPS and nms_thresh >= 1e-6 and max(map(max, image_sizes)) <= 2**15


def _keep(
    boxes: Tensor,
    logits: Tensor,
    valid: Tensor,
    counts: Sequence[int],
    nms_thresh: float,
    nms: NMS | None = None,
) -> Tensor:
    """Return bool [n, P]: which candidates of n images survive one NMS within each image and level."""
    device = boxes.device
    levels = torch.cat([torch.full((c,), i, dtype=torch.int64, device=device) for i, c in enumerate(counts)])
    image = torch.arange(boxes.shape[0], device=device)
    groups = levels * boxes.shape[0] + image[:, None]  # [n, P]
    keep = class_aware_nms_mask(
        boxes.flatten(0, 1), logits.flatten(), groups.flatten(), valid.flatten(), nms_thresh, nms
    )
    return keep.view_as(logits)


def _keep_in_rounds(boxes: Tensor, valid: Tensor, counts: Sequence[int], nms_thresh: float) -> Tensor:
    """Return what :func:`_keep` does; all levels of all images are padded to the same number of candidates."""
    most = max(counts)
    levels = zip(boxes.split(list(counts), dim=1), valid.split(list(counts), dim=1), counts)
    padded = [(F.pad(b, (0, 0, 0, most - c)), F.pad(v, (0, most - c))) for b, v, c in levels]
    b, v = (torch.stack(part, dim=1).flatten(0, 1) for part in zip(*padded))  # [N * L, most, ...]
    keep = nms_in_rounds(b, v, nms_thresh).unflatten(0, (-1, len(counts)))
    return torch.cat([keep[:, level, :c] for level, c in enumerate(counts)], dim=1)


def proposals_as_instances(
    boxes: Tensor,
    logits: Tensor,
    counts: Sequence[int],
    image_sizes: Sequence[tuple[int, int]],
    options: tuple[float, int, float],
    training: bool,
    clip: Clip,
    box_type: Callable[[Tensor], Any],
) -> list[Instances]:
    """Convert candidates of N images to ``Instances``; ``options`` are nms_thresh, post_nms_topk and min_box_size."""
    if not image_sizes:
        return []
    chosen, scores, real = suppress_candidates(boxes, logits, counts, image_sizes, *options, clip)
    finite = boxes.isfinite().all() & logits.isfinite().all()
    all_finite, *found_counts = real_counts([finite, *real])
    if training and not all_finite:
        raise FloatingPointError(
            "the proposal network predicted infinite or NaN boxes or logits: training has diverged. "
            "Lower SOLVER.BASE_LR, lengthen the warm-up, or enable gradient clipping."
        )
    result = []
    for box, score, count, size in zip(chosen, scores, found_counts, image_sizes):
        found = Instances((size[0], size[1]))
        found.proposal_boxes = box_type(box[:count])
        found.objectness_logits = score[:count]
        result.append(found)
    return result


def find_top_rpn_proposals(
    proposals: list[Tensor],
    pred_objectness_logits: list[Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Select the best proposals of each image after clipping and non-maximum suppression within each level.

    Args:
        proposals: boxes [N, A_l, 4] XYXY for each level.
        pred_objectness_logits: [N, A_l] for each level.
        image_sizes: height and width of N images.
        nms_thresh: IoU threshold of NMS.
        pre_nms_topk: number of proposals per level that enter NMS.
        post_nms_topk: number of proposals to return, over all levels.
        min_box_size: proposals with a side of at most this many pixels are dropped.
        training: whether to raise for non-finite predictions, which are dropped otherwise.

    Returns:
        Instances with ``proposal_boxes`` and ``objectness_logits`` in descending order, for each image.

    Raises:
        FloatingPointError: in training, if a prediction is infinite or NaN.
    """
    boxes, logits, counts = gather_candidates(proposals, pred_objectness_logits, pre_nms_topk)
    options = (nms_thresh, post_nms_topk, min_box_size)
    return proposals_as_instances(boxes, logits, counts, image_sizes, options, training, clip_boxes, Boxes)


def add_ground_truth_to_proposals(
    gt: list[Instances] | list[Boxes], proposals: list[Instances]
) -> list[Instances]:
    """Append the ground truth of each image to its proposals, with a high objectness logit.

    Early in training this guarantees foreground.

    Args:
        gt: Instances with ``gt_boxes``, or the boxes themselves, for each of N images.
        proposals: N Instances with ``proposal_boxes`` and ``objectness_logits``.

    Raises:
        ValueError: if the numbers of images differ.
    """
    if len(gt) != len(proposals):
        raise BadValue(f"got ground truth of {len(gt)} images, but proposals of {len(proposals)}")
    pairs: list[tuple[Instances | Boxes, Instances]] = list(zip(gt, proposals))
    return [add_ground_truth_to_proposals_single_image(g, p) for g, p in pairs]


def add_ground_truth_to_proposals_single_image(gt: Instances | Boxes, proposals: Instances) -> Instances:
    """Append the ground truth of one image to its proposals; see :func:`add_ground_truth_to_proposals`.

    Raises:
        ValueError: if the proposals have a field that the ground truth lacks.
    """
    boxes = gt.gt_boxes if isinstance(gt, Instances) else gt
    logits = proposals.objectness_logits
    added = Instances(proposals.image_size, **(gt.get_fields() if isinstance(gt, Instances) else {}))
    added.proposal_boxes = boxes
    added.objectness_logits = logits.new_full((len(boxes),), _GROUND_TRUTH_LOGIT)
    missing = [name for name in proposals.get_fields() if not added.has(name)]
    if missing:
        raise BadValue(f"proposals have the fields {missing}, which the ground truth lacks")
    extra = [name for name in added.get_fields() if not proposals.has(name)]
    for name in extra:
        added.remove(name)
    return Instances.cat([proposals, added])
