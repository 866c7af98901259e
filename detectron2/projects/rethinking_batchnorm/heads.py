"""Batch norms and heads that differ in the samples whose statistics they use.

Rethinking "Batch" in BatchNorm (Wu and Johnson 2021, https://arxiv.org/abs/2105.07576).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from detectron2.layers import BatchNorm2d
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, MaskRCNNConvUpsampleHead
from detectron2.utils import comm

__all__ = [
    "BatchNormBatchStat",
    "FastRCNNConvFCHeadWithShuffle",
    "MaskRCNNConvUpsampleHeadWithShuffle",
    "RetinaNetHead_SharedTrainingBN",
]


class BatchNormBatchStat(BatchNorm2d):
    """Batch norm that normalises by the batch at hand in evaluation too.

    Running statistics are updated in training, for the sake of comparisons, and never used.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape; nothing to normalise (N = 0) is returned as it is."""
        if input.numel() == 0:
            return input
        if self.training:
            return super().forward(input)
        return F.batch_norm(input, None, None, self.weight, self.bias, training=True, eps=self.eps)


def shuffled_between_workers(layers: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``layers(x)``, where each worker computes the rows of random others in place of its own.

    Rows of one image are alike, and without the shuffle a batch norm would see one or two images only. Every worker
    gets as many rows as it gave. All workers must call this together.

    Args:
        layers: maps [R, ...] to [R, ...], row by row but for batch norms.
        x: [R, ...], this worker's rows; R may differ between workers.
    """
    if comm.get_world_size() == 1:
        return layers(x)
    counts: list[int] = comm.all_gather(len(x))
    start = sum(counts[: comm.get_rank()])
    mine = slice(start, start + len(x))
    random = torch.Generator().manual_seed(comm.shared_random_seed() % 2**31)
    order = torch.randperm(sum(counts), generator=random).to(x.device)
    y = layers(_rows_of_all(x, counts, start)[order[mine]])
    return _rows_of_all(y, counts, start)[order.argsort()[mine]]


def _rows_of_all(x: Tensor, counts: list[int], start: int) -> Tensor:
    """Return the rows of all workers, one after another; gradients flow back to the worker that each comes from."""
    around = [0, 0] * (x.dim() - 1) + [start, sum(counts) - start - len(x)]
    return all_reduce(F.pad(x, around))


class FastRCNNConvFCHeadWithShuffle(FastRCNNConvFCHead):
    """The box head, on regions that are shuffled between workers in training."""

    def forward(self, x: Tensor) -> Tensor:
        """See the base class."""
        return shuffled_between_workers(super().forward, x) if self.training else super().forward(x)


class MaskRCNNConvUpsampleHeadWithShuffle(MaskRCNNConvUpsampleHead):
    """The mask head, on regions that are shuffled between workers in training."""

    def layers(self, x: Tensor) -> Tensor:
        """See the base class."""
        return shuffled_between_workers(super().layers, x) if self.training else super().layers(x)


class RetinaNetHead_SharedTrainingBN(RetinaNetHead):
    """RetinaNet's head, whose batch norms see all levels as one batch in training.

    In evaluation running statistics serve every level, so that this is the same function there as without the change.
    """

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits [N, A * K, H, W] and deltas [N, A * 4, H, W] for each map [N, C, H, W]."""
        logits = [self.cls_score(x) for x in _with_shared_norms(self.cls_subnet, features)]
        deltas = [self.bbox_pred(x) for x in _with_shared_norms(self.bbox_subnet, features)]
        return logits, deltas


def _with_shared_norms(layers: nn.Sequential, maps: list[Tensor]) -> list[Tensor]:
    for layer in layers:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            sizes = [x.shape[2:] for x in maps]
            together = layer(
                torch.cat([x.flatten(2) for x in maps], dim=2)[..., None]
            )  # [N, C, sum of H * W, 1]
            parts = together[..., 0].split([h * w for h, w in sizes], dim=2)
            maps = [part.unflatten(2, size) for part, size in zip(parts, sizes)]
        else:
            maps = [layer(x) for x in maps]
    return maps
