"""Hungarian matching: assign each object to a different query such that the total cost is minimal.

Costs are matrices of Q queries by T objects of one image; the caller weights and sums them.

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
"""For each image, the indices of matched queries and of their objects, [K] each."""


def class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the classification cost for softmax: the negated probability of the object's class.

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
    """Compute the classification cost for sigmoids: the focal loss of a positive minus that of a negative.

    Args:
        logits: [Q, classes].
        labels: [T] classes of the objects.
        alpha: weight of positives.
        gamma: focusing exponent.
        eps: added to probabilities before the logarithm.

    Returns:
        [Q, T].

    Reference: Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002
    """
    p = logits.float().sigmoid()
    positive = -alpha * (1 - p) ** gamma * (p + eps).log()
    negative = -(1 - alpha) * p**gamma * (1 - p + eps).log()
    return (positive - negative)[:, labels]


def l1_cost(boxes: Tensor, targets: Tensor) -> Tensor:
    """Compute the L1 distances [Q, T] of boxes [Q, 4] and [T, 4]."""
    return torch.cdist(boxes.float(), targets.float(), p=1)


def giou_cost(boxes: Tensor, targets: Tensor) -> Tensor:
    """Compute the negated generalised IoU [Q, T] of boxes [Q, 4] and [T, 4], given by their corners."""
    return -generalized_box_iou(boxes.float(), targets.float())


def batch_sigmoid_ce_loss(inputs: Tensor, targets: Tensor) -> Tensor:
    """Compute the binary cross-entropy of every pair of masks, averaged over points.

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
    """Compute the dice loss of every pair of masks.

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
    """Sample all masks of one image at the same random points.

    Args:
        logits: [Q, h, w] predicted masks.
        targets: [T, H, W] masks of the objects.
        num_points: number of points, P.
        extent: height and width, in target pixels, that the predictions cover; None = (H, W).

    Returns:
        [Q, P] logits and [T, P] targets in [0, 1].
    """
    points = torch.rand(1, num_points, 2, device=logits.device)
    predicted = point_sample(logits[None].float(), points, align_corners=False)[0]
    return predicted, point_sample(targets[None], _within(points, targets, extent), align_corners=False)[0]


def _within(points: Tensor, masks: Tensor, extent: tuple[int, int] | None) -> Tensor:
    """Convert points relative to an extent to points relative to masks [..., H, W] at its top left corner."""
    if extent is None or extent == masks.shape[-2:]:
        return points
    return points * points.new_tensor([extent[1] / masks.shape[-1], extent[0] / masks.shape[-2]])


@torch.no_grad()
def assign(costs: Sequence[Tensor]) -> Indices:
    """Find the assignment of queries to objects with the lowest total cost.

    Args:
        costs: [Q, T] for each image. Infinite and NaN costs are replaced by very large ones.

    Returns:
        For each image ``min(Q, T)`` queries, in ascending order, and their objects, on the CPU.
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
    """Return the image and query indices of all matches, to index [N, Q, ...] tensors."""
    images = torch.cat([torch.full_like(queries, i) for i, (queries, _) in enumerate(indices)])
    return images, torch.cat([queries for queries, _ in indices])
