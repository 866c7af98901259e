"""Hungarian matching: give every object a query of its own, so that the sum of costs is smallest.

Costs are matrices of queries by objects of one image; they are added up by the caller's weights.

References: End-to-End Object Detection with Transformers, https://arxiv.org/abs/2005.12872; for masks Mask2Former,
https://arxiv.org/abs/2112.01527
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.layers import point_sample

from .boxes import generalized_box_iou

__all__ = [
    "Indices",
    "assign",
    "batch_dice_loss",
    "batch_sigmoid_ce_loss",
    "class_cost",
    "focal_cost",
    "giou_cost",
    "l1_cost",
    "masks_at_points",
    "matched_queries",
]

Indices: TypeAlias = list[tuple[Tensor, Tensor]]
"""For each image the matched queries and their objects, [K] each."""


def class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Cost of a class by softmax: the probability of the object's class, negated.

    Args:
        logits: [Q, classes].
        labels: [T] classes of the objects.

    Returns:
        [Q, T] in [-1, 0].
    """
    return -logits.float().softmax(-1)[:, labels]


def focal_cost(
    logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0, eps: float = 1e-8
) -> Tensor:
    """Cost of a class by sigmoid: the focal loss if it is the object's class less that if it is not.

    Args:
        logits: [Q, classes].
        labels: [T] classes of the objects.
        alpha: weight of positives.
        gamma: strength of the fading.
        eps: added to probabilities before their logarithm.

    Returns:
        [Q, T].

    Reference: Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002
    """
    p = logits.float().sigmoid()
    positive = -alpha * (1 - p) ** gamma * (p + eps).log()
    negative = -(1 - alpha) * p**gamma * (1 - p + eps).log()
    return (positive - negative)[:, labels]


def l1_cost(boxes: Tensor, targets: Tensor) -> Tensor:
    """Sum of the differences of the four numbers of boxes [Q, 4] and [T, 4]: [Q, T]."""
    return torch.cdist(boxes.float(), targets.float(), p=1)


def giou_cost(boxes: Tensor, targets: Tensor) -> Tensor:
    """Generalised IoU of boxes [Q, 4] and [T, 4], given by their corners, negated: [Q, T]."""
    return -generalized_box_iou(boxes.float(), targets.float())


def batch_sigmoid_ce_loss(inputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of every pair of masks, mean over points.

    Args:
        inputs: [Q, P] logits at points.
        targets: [T, P] in [0, 1] at the same points.

    Returns:
        [Q, T].
    """
    with torch.autocast(inputs.device.type, enabled=False):
        logits, targets = inputs.float(), targets.float()
        # softplus(x) is the loss if the target is 0, softplus(x) - x if it is 1.
        absent = F.softplus(logits).sum(1, keepdim=True)
        return (absent - logits @ targets.T) / logits.shape[1]


def batch_dice_loss(inputs: Tensor, targets: Tensor) -> Tensor:
    """Dice loss of every pair of masks.

    Args:
        inputs: [Q, ...] logits.
        targets: [T, ...] in [0, 1] at the same points.

    Returns:
        [Q, T] in [0, 1].

    Reference: V-Net, https://arxiv.org/abs/1606.04797
    """
    with torch.autocast(inputs.device.type, enabled=False):
        p, targets = inputs.float().sigmoid().flatten(1), targets.float().flatten(1)
        both = p.sum(1, keepdim=True) + targets.sum(1)
        return 1 - (2 * p @ targets.T + 1) / (both + 1)


def masks_at_points(
    logits: Tensor, targets: Tensor, num_points: int, extent: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Sample the masks of one image at random points, the same for all of them.

    Args:
        logits: [Q, h, w] predicted masks.
        targets: [T, H, W] masks of the objects.
        num_points: points to draw, P.
        extent: height and width that the predictions cover, in pixels of the targets, if it is more than (H, W).

    Returns:
        [Q, P] logits and [T, P] targets in [0, 1].
    """
    points = torch.rand(1, num_points, 2, device=logits.device)
    predicted = point_sample(logits[None].float(), points, align_corners=False)[0]
    return predicted, point_sample(targets[None], _within(points, targets, extent), align_corners=False)[0]


def _within(points: Tensor, masks: Tensor, extent: tuple[int, int] | None) -> Tensor:
    """Express points in [0, 1] of an extent in [0, 1] of masks [..., H, W] at its top left corner."""
    if extent is None or extent == masks.shape[-2:]:
        return points
    return points * points.new_tensor([extent[1] / masks.shape[-1], extent[0] / masks.shape[-2]])


@torch.no_grad()
def assign(costs: Sequence[Tensor]) -> Indices:
    """Assign queries to objects.

    Args:
        costs: [Q, T] for each image. Costs that are not finite count as very high.

    Returns:
        for each image ``min(Q, T)`` queries, in rising order, and their objects, on the CPU.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("Hungarian matching needs scipy: pip install 'detectron2[transformers]'") from error
    shapes = [c.shape for c in costs]
    flat = torch.cat([c.flatten() for c in costs]).float().cpu()  # one transfer for all images
    finite = flat.nan_to_num(nan=1e10, posinf=1e10, neginf=1e10).clamp(-1e10, 1e10)
    pairs = [
        linear_sum_assignment(part.view(shape).numpy())
        for part, shape in zip(finite.split([s.numel() for s in shapes]), shapes)
    ]
    return [(torch.as_tensor(i, dtype=torch.int64), torch.as_tensor(j, dtype=torch.int64)) for i, j in pairs]


def matched_queries(indices: Indices) -> tuple[Tensor, Tensor]:
    """Return image and query of all matches, image by image: an index into [N, Q, ...] tensors."""
    images = torch.cat([torch.full_like(queries, i) for i, (queries, _) in enumerate(indices)])
    return images, torch.cat([queries for queries, _ in indices])
