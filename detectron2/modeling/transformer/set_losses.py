"""Losses of matched queries: masks at sampled points, and the normalising number of objects.

References: Mask2Former, https://arxiv.org/abs/2112.01527; points: PointRend, https://arxiv.org/abs/1912.08193
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from detectron2.layers import get_uncertain_point_coords_with_randomness, point_sample
from detectron2.utils import comm
from detectron2.utils.errors import BadValue

from .matching import Indices, _within, matched_queries

__all__ = [
    "calculate_uncertainty",
    "dice_loss",
    "matched_masks_at_points",
    "mean_count",
    "sigmoid_ce_loss",
]


def sigmoid_ce_loss(inputs: Tensor, targets: Tensor, num_masks: Tensor | float) -> Tensor:
    """Compute the binary cross-entropy of masks: mean over points, sum over masks, divided by ``num_masks``.

    Args:
        inputs: [M, P] logits.
        targets: [M, P] in [0, 1].
        num_masks: the divisor.
    """
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    return loss.mean(1).sum() / num_masks


def dice_loss(inputs: Tensor, targets: Tensor, num_masks: Tensor | float) -> Tensor:
    """Compute the dice loss of masks: 1 minus the smoothed overlap, summed over masks, divided by ``num_masks``.

    Args:
        inputs: [M, ...] logits.
        targets: [M, ...] in [0, 1].
        num_masks: the divisor.

    Reference: V-Net, https://arxiv.org/abs/1606.04797
    """
    p, t = inputs.sigmoid().flatten(1), targets.flatten(1)
    overlap = (2 * (p * t).sum(-1) + 1) / (p.sum(-1) + t.sum(-1) + 1)
    return (1 - overlap).sum() / num_masks


def calculate_uncertainty(logits: Tensor) -> Tensor:
    """Return the negated distances of logits [R, 1, ...] from 0; higher values are less certain."""
    if logits.shape[1] != 1:
        raise BadValue(f"logits of masks must have one channel, got {tuple(logits.shape)}")
    return -logits.abs()


def matched_masks_at_points(
    logits: Tensor,
    targets: Sequence[Tensor],
    indices: Indices,
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> tuple[Tensor, Tensor]:
    """Sample each matched mask at random points, most of them where its prediction is uncertain.

    Args:
        logits: [N, Q, h, w] predicted masks, which cover the largest H and W of the batch.
        targets: masks [T, H, W] of each image, at the top left of this area.
        indices: matched queries and targets of each image, M in total.
        num_points: number of points per mask, P.
        oversample_ratio, importance_sample_ratio: see
            :func:`~detectron2.layers.get_uncertain_point_coords_with_randomness`.

    Returns:
        [M, P] logits and [M, P] targets in [0, 1], both in float32.
    """
    chosen = logits[matched_queries(indices)][:, None].float()  # [M, 1, h, w]
    points = get_uncertain_point_coords_with_randomness(
        chosen, calculate_uncertainty, num_points, oversample_ratio, importance_sample_ratio
    )
    extent = (max(t.shape[1] for t in targets), max(t.shape[2] for t in targets))
    labels = [
        point_sample(
            masks[which.to(masks.device)][:, None], _within(some, masks, extent), align_corners=False
        )
        for masks, (_, which), some in zip(targets, indices, points.split([len(i) for i, _ in indices]))
    ]
    predicted = point_sample(chosen, points, align_corners=False)
    return predicted[:, 0], torch.cat(labels)[:, 0].to(predicted)


def mean_count(count: int, device: torch.device | str) -> Tensor:
    """Return the mean of ``count`` over all processes, at least 1; the divisor of losses."""
    mean = torch.tensor([float(count)], device=device)
    world = comm.get_world_size()
    if world > 1:
        dist.all_reduce(mean)
    return (mean / world).clamp(min=1)[0]
