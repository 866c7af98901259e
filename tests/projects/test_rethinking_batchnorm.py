"""Batch norms and heads of Rethinking-BatchNorm."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F

from detectron2.layers import ShapeSpec
from detectron2.projects.rethinking_batchnorm import (
    BatchNormBatchStat,
    FastRCNNConvFCHeadWithShuffle,
    MaskRCNNConvUpsampleHeadWithShuffle,
    RetinaNetHead_SharedTrainingBN,
)
from detectron2.projects.rethinking_batchnorm.heads import shuffled_between_workers


def test_batch_statistics_in_evaluation_too() -> None:
    norm = BatchNormBatchStat(4)
    nn.init.normal_(norm.weight)
    x = 5 + 3 * torch.randn(6, 4, 3, 3)
    trained = norm(x)
    torch.testing.assert_close(trained, F.batch_norm(x, None, None, norm.weight, norm.bias, training=True))
    before = norm.running_mean.clone()
    torch.testing.assert_close(norm.eval()(x), trained)
    assert torch.equal(norm.running_mean, before)
    assert norm(x[:0]).shape == norm.train()(x[:0]).shape == (0, 4, 3, 3)


def retina_head(norm: Any) -> Any:
    torch.manual_seed(0)
    shapes = [ShapeSpec(channels=8)] * 2
    head = RetinaNetHead_SharedTrainingBN(
        input_shape=shapes, num_classes=2, num_anchors=1, conv_dims=[8, 8], norm=norm
    )
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.2)
    return head


def test_levels_are_one_batch_in_training() -> None:
    """Two levels of one size give what one level with both of their batches gives."""
    head = retina_head(nn.BatchNorm2d)
    maps = [torch.randn(2, 8, 5, 4), 3 + torch.randn(2, 8, 5, 4)]
    logits, deltas = head(maps)
    joined, _ = head([torch.cat(maps)])
    torch.testing.assert_close(torch.cat(logits), joined[0])
    assert deltas[1].shape == (2, 4, 5, 4)
    different = head([torch.randn(2, 8, 6, 6), torch.randn(2, 8, 3, 3)])[0]
    assert [x.shape[-1] for x in different] == [6, 3]


def test_levels_are_apart_in_evaluation() -> None:
    head = retina_head(nn.BatchNorm2d)
    head([torch.randn(2, 8, 5, 4), torch.randn(2, 8, 3, 2)])
    maps = [torch.randn(1, 8, 5, 4), torch.randn(1, 8, 3, 2)]
    shared = head.eval()(maps)
    plain = super(RetinaNetHead_SharedTrainingBN, head).forward(maps)
    for a, b in zip([*shared[0], *shared[1]], [*plain[0], *plain[1]]):
        torch.testing.assert_close(a, b)


def test_alone_nothing_is_shuffled() -> None:
    box = FastRCNNConvFCHeadWithShuffle(
        ShapeSpec(channels=4, height=3, width=3), conv_dims=[4], fc_dims=[5], conv_norm="BN"
    )
    mask = MaskRCNNConvUpsampleHeadWithShuffle(
        ShapeSpec(channels=4, height=3, width=3), num_classes=2, conv_dims=[4, 4], conv_norm="BN"
    )
    x = torch.randn(6, 4, 3, 3)
    for head, plain in ((box, super(type(box), box).forward), (mask.layers, super(type(mask), mask).layers)):
        torch.testing.assert_close(head(x), plain(x))


def _worker(rank: int, sizes: list[int], folder: str) -> None:
    warnings.simplefilter("ignore")
    place = f"file://{folder}/meet"
    torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=len(sizes))
    torch.manual_seed(0)
    batch = torch.randn(sum(sizes), 3)
    weight = torch.randn_like(batch)
    part = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    x = batch[part].clone().requires_grad_()
    seen: list[torch.Tensor] = []

    def layers(rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows.detach())
        return rows.square()

    y = shuffled_between_workers(layers, x)
    (y * weight[part]).sum().backward()
    torch.save((y.detach(), x.grad, seen[0]), os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[30, 10], [8, 0]])
def test_rows_of_all_workers_are_mixed_and_come_back(sizes: list[int], tmp_path: Path) -> None:
    mp.spawn(_worker, (sizes, str(tmp_path)), nprocs=len(sizes))
    torch.manual_seed(0)
    batch = torch.randn(sum(sizes), 3)
    weight = torch.randn_like(batch)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(len(sizes))]
    torch.testing.assert_close(torch.cat([y for y, _, _ in results]), batch.square())
    torch.testing.assert_close(torch.cat([g for _, g, _ in results]), 2 * batch * weight)
    worked_on = [rows for _, _, rows in results]
    assert [len(rows) for rows in worked_on] == sizes
    assert sorted(torch.cat(worked_on)[:, 0].tolist()) == sorted(batch[:, 0].tolist())
    if min(sizes) > 0:  # each worker had rows of the other
        own = set(batch[: sizes[0], 0].tolist())
        assert 0 < sum(v in own for v in worked_on[0][:, 0].tolist()) < sizes[0]
