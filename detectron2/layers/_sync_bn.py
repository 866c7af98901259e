"""Moments of a batch that is distributed over workers, with gradients through the communication."""

import torch
import torch.distributed as dist
from torch import Tensor

from detectron2.utils.errors import BadValue

__all__ = ["all_reduce_sum", "sync_moments", "world_size"]


def world_size() -> int:
    """Return the number of workers; 1 outside distributed runs."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        # Every worker's result depends on this worker's input, so the gradients are summed as well.
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def all_reduce_sum(x: Tensor) -> Tensor:
    """Return the sum of ``x`` over all workers, differentiable on each."""
    return x if world_size() == 1 else _AllReduceSum.apply(x)


def sync_moments(x: Tensor, weighted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean and biased variance per channel over the batches of all workers.

    Args:
        x: [N, C, H, W], this worker's batch.
        weighted: weight workers by N; otherwise equally, and N = 0 is an error.

    Returns:
        ``(mean [C], var [C], seen)``; ``seen`` is a 0-d tensor, 1, or 0 if no worker has a sample.
    """
    n, c = x.shape[:2]
    if n == 0 and not weighted:
        raise BadValue(
            'NaiveSyncBatchNorm(stats_mode="") got an empty batch, whose mean is undefined; '
            'use stats_mode="N" (norm "naiveSyncBN_N") if batches may be empty'
        )
    pixels = max(x.shape[2] * x.shape[3], 1)
    weight = float(n) if weighted else 1.0
    per_image = 1.0 / (max(n, 1) * pixels)
    local = torch.cat([x.sum((0, 2, 3)) * per_image, x.square().sum((0, 2, 3)) * per_image, x.new_ones(1)])
    total = all_reduce_sum(local * weight)  # [2C + 1]
    count = total[-1].detach()
    mean, square = (total[:-1] / count.clamp(min=1)).split(c)
    return mean, square - mean * mean, count.clamp(max=1)
