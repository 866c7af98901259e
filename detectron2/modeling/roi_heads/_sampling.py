"""Sampling of proposals, and their targets, for training the heads of R-CNN.

N images, R proposals and M ground truths of one image, K classes (label K = background).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage

from .._selection import rows_of, rows_of_each
from ..matcher import Matcher, match_boxes
from ..sampling import sample_rows, subsample_labels
from ..tensor_inference import Tensors


def classes_of_matches(matches: Tensor, labels: Tensor, gt_classes: Tensor, num_classes: int) -> Tensor:
    """Return the target class [R] of each proposal: that of its match, K for background, -1 for ignored."""
    if gt_classes.numel() == 0:
        return torch.full_like(matches, num_classes)
    classes = gt_classes[matches]
    return classes.masked_fill(labels == 0, num_classes).masked_fill(labels == -1, -1)


def sample_by_label(
    gt_classes: Tensor, batch_size: int, positive_fraction: float, num_classes: int
) -> Tensor:
    """Return indices of the sampled proposals, foreground first."""
    return torch.cat(subsample_labels(gt_classes, batch_size, positive_fraction, num_classes))


def attach_targets(proposals: Instances, targets: Instances, rows: Tensor) -> None:
    """Copy the ``gt_*`` fields of the matches ``rows`` [R] to the proposals, unless they have them already."""
    for name, value in targets.get_fields().items():
        if name.startswith("gt_") and not proposals.has(name):
            proposals.set(name, value[rows])


def match_and_sample(
    proposals: list[Instances],
    targets: list[Instances],
    quality: Callable[[Boxes, Boxes], Tensor],
    matcher: Matcher,
    sample: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    num_classes: int,
) -> list[Instances]:
    """Match, sample and label the proposals of N images, and log the numbers of foreground and background.

    Args:
        proposals: Instances with ``proposal_boxes``.
        targets: Instances with ``gt_boxes``, ``gt_classes`` and any other ``gt_*`` field.
        quality: computes the overlap [M, R] of ground truth and proposals.
        matcher: labels proposals by that overlap.
        sample: called with matches, labels and ground-truth classes; returns the sampled indices and their classes.
        num_classes: K.

    Returns:
        The sampled proposals with ``gt_classes`` and, if the image has ground truth, the other ``gt_*`` fields, which
        are meaningless for background.
    """
    sampled, foreground, background = [], [], []
    for mine, target in zip(proposals, targets):
        matches, labels = match_boxes(matcher, quality, target.gt_boxes, mine.proposal_boxes)
        rows, classes = sample(matches, labels, target.gt_classes)
        chosen = mine[rows]
        chosen.gt_classes = classes
        if len(target):
            attach_targets(chosen, target, matches[rows])
        is_background = classes == num_classes
        background.append(is_background.sum())
        foreground.append(classes.numel() - background[-1])
        sampled.append(chosen)
    log_sample_counts(foreground, background)
    return sampled


@torch.no_grad()
def match_and_sample_padded(
    boxes: Tensor,
    real: Tensor,
    truth: Tensors,
    matcher: Matcher,
    num_samples: int,
    positive_fraction: float,
    num_classes: int,
) -> Tensors:
    """Match, sample and label the proposals of N images as :func:`match_and_sample`, by fixed counts and masks.

    Args:
        boxes: [N, P, 4].
        real: bool [N, P], which proposals are real.
        truth: ground truth of N images, see :func:`.padded_truth`.
        matcher: labels proposals by their IoU with the ground truth.
        num_samples, positive_fraction: see :func:`.sample_rows`.
        num_classes: K.

    Returns:
        ``boxes`` [N, k, 4], ``drawn`` bool [N, k], ``foreground`` bool [N, k], which comes first, ``classes`` [N, k]
        (K unless foreground), ``matches`` [N, k] and ``gt_boxes`` [N, k, 4].
    """
    classes, matches = _match_padded(boxes, real, truth, matcher, num_classes)
    rows, drawn = sample_rows(classes, num_samples, positive_fraction, num_classes)
    classes, matches = classes.gather(1, rows), matches.gather(1, rows)
    return _padded_sample(rows_of_each(boxes, rows), drawn, classes, matches, truth, num_classes)


@torch.no_grad()
def match_padded(boxes: Tensor, real: Tensor, truth: Tensors, matcher: Matcher, num_classes: int) -> Tensors:
    """Match and label all real boxes, for later stages of a cascade; see :func:`match_and_sample_padded`."""
    classes, matches = _match_padded(boxes, real, truth, matcher, num_classes)
    return _padded_sample(boxes, classes >= 0, classes, matches, truth, num_classes)


def _match_padded(
    boxes: Tensor, real: Tensor, truth: Tensors, matcher: Matcher, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Return the class [N, P] of each box, -1 for those that are ignored or not real, and its match [N, P]."""
    labels, matches = [], []
    truths = zip(truth["boxes"], truth["classes"], truth["valid"])
    for box, exists, (gt_boxes, gt_classes, valid) in zip(boxes, real, truths):
        match, label = match_boxes(matcher, pairwise_iou, Boxes(gt_boxes), Boxes(box), valid)
        classes = classes_of_matches(match, label, gt_classes, num_classes)
        labels.append(classes.masked_fill(~exists, -1))
        matches.append(match)
    return torch.stack(labels), torch.stack(matches)


def _padded_sample(
    boxes: Tensor, drawn: Tensor, classes: Tensor, matches: Tensor, truth: Tensors, num_classes: int
) -> Tensors:
    foreground = drawn & (classes < num_classes)
    return {
        "boxes": boxes,
        "drawn": drawn,
        "foreground": foreground,
        "classes": torch.where(foreground, classes, num_classes),
        "matches": matches,
        "gt_boxes": rows_of_each(truth["boxes"], matches),
    }


def log_sample_counts(foreground: list[Tensor], background: list[Tensor]) -> None:
    """Log the mean numbers of foreground and background samples per image."""
    if not foreground:
        return
    storage = get_event_storage()
    storage.put_scalar("roi_head/num_fg_samples", torch.stack(foreground).float().mean())
    storage.put_scalar("roi_head/num_bg_samples", torch.stack(background).float().mean())


def select_foreground_proposals(
    proposals: list[Instances], bg_label: int
) -> tuple[list[Instances], list[Tensor]]:
    """Select the foreground proposals of each image; also return their masks, bool [R].

    Args:
        proposals: Instances with ``gt_classes``; -1 = ignored.
        bg_label: the label of background, K.
    """
    masks = [(p.gt_classes != -1) & (p.gt_classes != bg_label) for p in proposals]
    return [p[rows] for p, rows in zip(proposals, rows_of(masks))], masks


def select_proposals_with_visible_keypoints(proposals: list[Instances]) -> list[Instances]:
    """Select foreground proposals that contain at least one visible keypoint of their ground truth.

    Their mean number per image is logged.

    Args:
        proposals: foreground Instances with ``proposal_boxes`` and ``gt_keypoints``.
    """
    chosen, num_visible = [], []
    for p in proposals:
        if len(p) == 0:
            chosen.append(p)
            num_visible.append(0)
            continue
        points = p.gt_keypoints.tensor  # [R, keypoints, 3]
        boxes = p.proposal_boxes.tensor[:, None]  # [R, 1, 4]
        xy = points[..., :2]
        inside = ((xy >= boxes[..., :2]) & (xy <= boxes[..., 2:])).all(dim=-1)
        rows = torch.nonzero(((points[..., 2] >= 1) & inside).any(dim=1))[:, 0]
        chosen.append(p[rows])
        num_visible.append(len(rows))
    storage = get_event_storage()
    storage.put_scalar("keypoint_head/num_fg_samples", sum(num_visible) / max(len(num_visible), 1))
    return chosen
