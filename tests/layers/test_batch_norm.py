"""Norms: equality with PyTorch's, conversion, and the exchange between workers."""

import copy
import os
import warnings

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from detectron2.layers import (
    BatchNorm2d,
    CycleBatchNormList,
    FrozenBatchNorm2d,
    LayerNorm,
    NaiveSyncBatchNorm,
    get_norm,
)


def random_norm(norm: nn.Module) -> nn.Module:
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return norm


@pytest.mark.parametrize("requires_grad", [True, False])
def test_frozen_is_batch_norm_in_evaluation(requires_grad: bool) -> None:
    torch.manual_seed(0)
    plain = random_norm(nn.BatchNorm2d(6, eps=1e-3)).eval()
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(copy.deepcopy(plain))
    x = torch.randn(2, 6, 4, 5, requires_grad=requires_grad)
    for mode in (True, False):
        torch.testing.assert_close(frozen.train(mode)(x), plain(x), atol=1e-5, rtol=1e-5)
    scale, shift = frozen.affine()
    torch.testing.assert_close(x * scale.view(6, 1, 1) + shift.view(6, 1, 1), plain(x), atol=1e-5, rtol=1e-5)
    assert not list(frozen.parameters())


def test_fresh_frozen_norm_is_identity() -> None:
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(FrozenBatchNorm2d(3, eps=0.1)(x), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_frozen_keeps_half_precision(dtype: torch.dtype) -> None:
    frozen = random_norm(FrozenBatchNorm2d(3))
    x = torch.randn(2, 3, 4, 4).to(dtype).requires_grad_()
    assert frozen(x).dtype == dtype
    torch.testing.assert_close(frozen(x).float(), frozen(x.float()), atol=0.05, rtol=0.02)


def test_conversion_there_and_back() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.SyncBatchNorm(4), nn.ReLU()))
    net.eval()
    for norm in (net[1], net[2][0]):
        random_norm(norm)
    x = torch.randn(1, 3, 5, 5)
    want = net(x)
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(net)
    assert frozen is net
    assert [type(m).__name__ for m in (net[1], net[2][0])] == ["FrozenBatchNorm2d"] * 2
    torch.testing.assert_close(net(x), want, atol=1e-5, rtol=1e-5)
    assert "1.num_batches_tracked" in net.state_dict()
    thawed = FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(net)
    assert type(thawed[1]) is nn.BatchNorm2d and thawed[1].weight.requires_grad
    torch.testing.assert_close(thawed(x), want, atol=1e-5, rtol=1e-5)


def test_norms_without_affine_terms_freeze() -> None:
    norm = nn.BatchNorm2d(4, affine=False).eval()
    norm.running_mean += 2
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(FrozenBatchNorm2d.convert_frozen_batchnorm(norm)(x), norm(x))


def test_old_checkpoints_have_no_statistics() -> None:
    frozen = random_norm(FrozenBatchNorm2d(4))
    missing = frozen.load_state_dict({"weight": torch.ones(4), "bias": torch.zeros(4)}, strict=False)
    assert not missing.missing_keys
    assert frozen.running_mean.tolist() == [0] * 4
    new = {"weight": torch.ones(4), "bias": torch.zeros(4)}
    new_format = FrozenBatchNorm2d(4).state_dict()
    del new_format["running_mean"]
    assert FrozenBatchNorm2d(4).load_state_dict(new_format, strict=False).missing_keys == ["running_mean"]
    assert new.keys() == {"weight", "bias"}


def test_layer_norm_per_pixel() -> None:
    torch.manual_seed(2)
    norm = random_norm(LayerNorm(7))
    x = torch.randn(2, 7, 3, 4)
    want = torch.empty_like(x)
    for n in range(2):
        for i in range(3):
            for j in range(4):
                v = x[n, :, i, j]
                want[n, :, i, j] = (v - v.mean()) / (
                    v.var(unbiased=False) + 1e-6
                ).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), want, atol=1e-5, rtol=1e-5)


def test_cycle_takes_turns() -> None:
    norm = CycleBatchNormList(2, num_features=3)
    x = torch.randn(4, 3, 5, 5)
    for step in range(4):
        norm(x + 10 * (step % 2))
    means = [n.running_mean.mean().item() for n in norm]
    assert abs(means[0]) < 0.5 < 1.5 < means[1]
    assert {k for k, _ in norm.named_parameters()} == {"weight", "bias"}
    assert norm.extra_repr() == "affine=True"
    assert not list(CycleBatchNormList(2, bn_class=BatchNorm2d, num_features=3, affine=False).parameters())


@pytest.mark.parametrize(
    "name", ["BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"]
)
def test_names(name: str) -> None:
    norm = get_norm(name, 32)
    assert norm is not None
    assert norm.eval()(torch.randn(2, 32, 4, 4)).shape == (2, 32, 4, 4)


def test_no_norm_and_unknown_norm() -> None:
    assert get_norm("", 3) is None and get_norm(None, 3) is None
    assert isinstance(get_norm(nn.InstanceNorm2d, 3), nn.InstanceNorm2d)
    with pytest.raises(KeyError, match="'XN'; known: BN"):
        get_norm("XN", 3)
    with pytest.raises(ValueError, match="stats_mode"):
        NaiveSyncBatchNorm(3, stats_mode="M")


def test_alone_it_is_batch_norm() -> None:
    torch.manual_seed(3)
    x = torch.randn(3, 4, 5, 5)
    a, b = NaiveSyncBatchNorm(4), nn.BatchNorm2d(4)
    torch.testing.assert_close(a(x), b(x))
    torch.testing.assert_close(a.running_var, b.running_var)


def _worker(rank: int, sizes: list[int], mode: str, folder: str) -> None:
    warnings.simplefilter("ignore")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(sizes)
    )
    torch.manual_seed(0)
    batch = torch.randn(sum(sizes), 4, 3, 3)
    weight = torch.randn_like(batch)
    start = sum(sizes[:rank])
    part = slice(start, start + sizes[rank])
    norm = NaiveSyncBatchNorm(4, stats_mode=mode).train()
    x = batch[part].clone().requires_grad_()
    y = norm(x)
    (y * weight[part]).sum().backward()
    torch.save((y.detach(), x.grad, norm.running_mean, norm.running_var), os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "mode"), [([2, 2], ""), ([3, 1], "N"), ([4, 0], "N")])
def test_workers_see_one_batch(sizes: list[int], mode: str, tmp_path) -> None:
    """Outputs and gradients are those of one batch norm over the whole batch."""
    mp.spawn(_worker, (sizes, mode, str(tmp_path)), nprocs=len(sizes))
    torch.manual_seed(0)
    batch = torch.randn(sum(sizes), 4, 3, 3, requires_grad=True)
    weight = torch.randn(batch.shape)
    norm = nn.BatchNorm2d(4).train()
    y = norm(batch)
    (y * weight).sum().backward()
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(len(sizes))]
    torch.testing.assert_close(torch.cat([p[0] for p in parts]), y.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([p[1] for p in parts]), batch.grad, atol=1e-5, rtol=1e-4)
    for _, _, mean, var in parts:
        torch.testing.assert_close(mean, norm.running_mean, atol=1e-6, rtol=1e-4)
        biased = 0.9 + 0.1 * batch.detach().var((0, 2, 3), unbiased=False)
        torch.testing.assert_close(var, biased, atol=1e-5, rtol=1e-4)
