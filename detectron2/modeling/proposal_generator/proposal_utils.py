"""Parts of all region proposal networks: selecting the best boxes, and adding the ground truth to them.

N images, L levels, A_l predictions on level l, P candidates, k chosen, D = 4 or 5 numbers for each box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detectron2.structures import Boxes, Instances
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on

from .._selection import best_rows, class_aware_nms_mask, clip_boxes, top_scores

__all__ = [
    "add_ground_truth_to_proposals",
    "add_ground_truth_to_proposals_single_image",
    "find_top_rpn_proposals",
]

__getattr__ = passed_on(__name__)

# Ground truth joins the proposals as if the RPN were all but certain of it: the logit of 1 - 1e-10.
_GROUND_TRUTH_LOGIT = math.log((1.0 - 1e-10) / 1e-10)

Clip = Callable[[Tensor, Any, Any], Tensor]


def gather_candidates(
    proposals: Sequence[Tensor], logits: Sequence[Tensor], pre_nms_topk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ``pre_nms_topk`` best predictions of each level, for every image.

    Args:
        proposals: boxes [N, A_l, D] for each level.
        logits: [N, A_l] for each level.
        pre_nms_topk: how many for each level.

    Returns:
        Boxes [N, P, D], logits [N, P] and the level of each candidate, int64 [P].
    """
    boxes, scores, levels = [], [], []
    for level, (b, s) in enumerate(zip(proposals, logits)):
        best, places = top_scores(s, pre_nms_topk)  # [N, k]
        boxes.append(b.gather(1, places[..., None].expand(-1, -1, b.shape[-1])))
        scores.append(best)
        levels.append(torch.full((best.shape[1],), level, dtype=torch.int64, device=b.device))
    return torch.cat(boxes, dim=1), torch.cat(scores, dim=1), torch.cat(levels)


def suppress_candidates(
    boxes: Tensor,
    logits: Tensor,
    levels: Tensor,
    image_size: tuple[Any, Any],
    nms_thresh: float,
    post_nms_topk: int,
    min_box_size: float,
    clip: Clip = clip_boxes,
) -> tuple[Tensor, Tensor, Tensor]:
    """Clip the candidates of one image, drop small and non-finite ones and duplicates, and take the best.

    Args:
        boxes: [P, D].
        logits: [P].
        levels: int64 [P]; candidates of different levels do not suppress each other.
        image_size: height and width.
        nms_thresh: IoU above which the lower logit goes.
        post_nms_topk: how many to keep.
        min_box_size: in pixels; sides must be longer.
        clip: takes boxes, height and width.

    Returns:
        Boxes [k, D] and logits [k] in descending order of the logits, and bool [k]: which rows are real. Boxes that
        are not are zero.
    """
    finite = boxes.isfinite().all(dim=-1) & logits.isfinite() & (logits > -1e38)
    boxes = clip(torch.where(finite[:, None], boxes, 0.0), *image_size)
    sides = boxes[:, 2:4] - boxes[:, :2] if boxes.shape[-1] == 4 else boxes[:, 2:4]
    valid = finite & (sides > min_box_size).all(dim=-1)
    keep = class_aware_nms_mask(boxes, logits, levels, valid, nms_thresh)
    rows, real = best_rows(logits, keep, post_nms_topk)
    return boxes[rows] * real[:, None], logits[rows], real


def select_proposals(
    proposals: Sequence[Tensor],
    logits: Sequence[Tensor],
    image_sizes: Sequence[tuple[Any, Any]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    clip: Clip = clip_boxes,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Gather and suppress candidates for each image; return (boxes, logits, which are real) for each."""
    boxes, scores, levels = gather_candidates(proposals, logits, pre_nms_topk)
    return [
        suppress_candidates(b, s, levels, size, nms_thresh, post_nms_topk, min_box_size, clip)
        for b, s, size in zip(boxes, scores, image_sizes)
    ]


def proposals_as_instances(
    boxes: Tensor,
    logits: Tensor,
    levels: Tensor,
    image_sizes: Sequence[tuple[int, int]],
    options: tuple[float, int, float],
    training: bool,
    clip: Clip,
    box_type: Callable[[Tensor], Any],
) -> list[Instances]:
    """Convert candidates of N images to ``Instances``; ``options`` are nms_thresh, post_nms_topk and min_box_size."""
    if training and not bool(boxes.isfinite().all() & logits.isfinite().all()):
        raise FloatingPointError(
            "the proposal network predicted boxes or logits that are not finite: training has diverged. "
            "Lower SOLVER.BASE_LR, lengthen the warm-up, or turn on gradient clipping."
        )
    result = []
    for b, s, size in zip(boxes, logits, image_sizes):
        chosen, score, real = suppress_candidates(b, s, levels, size, *options, clip)
        found = Instances((size[0], size[1]))
        found.proposal_boxes = box_type(chosen[real])
        found.objectness_logits = score[real]
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
        nms_thresh: IoU above which the proposal with the lower logit goes.
        pre_nms_topk: how many of each level take part.
        post_nms_topk: how many come back, over all levels.
        min_box_size: proposals with a side of at most this many pixels are dropped.
        training: whether to raise for non-finite predictions. In evaluation they are dropped.

    Returns:
        For each image Instances with ``proposal_boxes`` and ``objectness_logits``, in descending order.

    Raises:
        FloatingPointError: in training, when a prediction is infinite or NaN.
    """
    boxes, logits, levels = gather_candidates(proposals, pred_objectness_logits, pre_nms_topk)
    options = (nms_thresh, post_nms_topk, min_box_size)
    return proposals_as_instances(boxes, logits, levels, image_sizes, options, training, clip_boxes, Boxes)


def add_ground_truth_to_proposals(
    gt: list[Instances] | list[Boxes], proposals: list[Instances]
) -> list[Instances]:
    """Append the ground truth of each image to its proposals, with a logit as of near certainty.

    Early in training this makes sure that there is foreground to learn from.

    Args:
        gt: for each of N images Instances with ``gt_boxes``, or the boxes themselves.
        proposals: N Instances with ``proposal_boxes`` and ``objectness_logits``.

    Raises:
        ValueError: if the numbers of images differ.
    """
    if len(gt) != len(proposals):
        raise BadValue(f"ground truth of {len(gt)} images, but proposals of {len(proposals)}")
    pairs: list[tuple[Instances | Boxes, Instances]] = list(zip(gt, proposals))
    return [add_ground_truth_to_proposals_single_image(g, p) for g, p in pairs]


def add_ground_truth_to_proposals_single_image(gt: Instances | Boxes, proposals: Instances) -> Instances:
    """Do the same for one image.

    Raises:
        ValueError: if the proposals have a field that the ground truth cannot supply.
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
