"""Convolution wrappers, blocks, ASPP, initial values and small helpers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detectron2.layers import (
    ASPP,
    CNNBlockBase,
    Conv2d,
    DepthwiseSeparableConv2d,
    FrozenBatchNorm2d,
    ShapeSpec,
    cat,
    cross_entropy,
    empty_input_loss_func_wrapper,
    get_norm,
    move_device_like,
    nonzero_tuple,
    shapes_to_tensor,
)
from detectron2.layers.weight_init import c2_msra_fill, c2_xavier_fill


def test_conv_with_norm_and_activation() -> None:
    torch.manual_seed(0)
    conv = Conv2d(3, 4, 3, padding=1, bias=False, norm=get_norm("BN", 4), activation=F.relu)
    x = torch.randn(2, 3, 6, 6)
    want = conv.norm(F.conv2d(x, conv.weight, padding=1)).relu()
    torch.testing.assert_close(conv(x), want)
    assert conv.eval()(x[:0]).shape == (0, 4, 6, 6)
    reflect = Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
    torch.testing.assert_close(reflect(x), nn.Conv2d.forward(reflect, x))


def test_freeze() -> None:
    class Block(CNNBlockBase):
        def __init__(self) -> None:
            super().__init__(3, 4, 2)
            self.conv = Conv2d(3, 4, 1, stride=2, norm=get_norm("BN", 4))

    block = Block()
    assert block.freeze() is block
    assert isinstance(block.conv.norm, FrozenBatchNorm2d)
    assert not any(p.requires_grad for p in block.parameters())
    assert (block.in_channels, block.out_channels, block.stride) == (3, 4, 2)


def test_depthwise_separable() -> None:
    torch.manual_seed(1)
    block = DepthwiseSeparableConv2d(4, 6, 3, padding=2, dilation=2, norm2="BN", activation2=F.relu).eval()
    x = torch.randn(1, 4, 7, 7)
    d, p = block.depthwise, block.pointwise
    deep = torch.cat(
        [F.conv2d(x[:, c : c + 1], d.weight[c : c + 1], d.bias[c : c + 1], 1, 2, 2) for c in range(4)], 1
    )
    torch.testing.assert_close(block(x), p.norm(F.conv2d(deep, p.weight)).relu())
    assert p.bias is None and d.bias is not None


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("pool", [None, (4, 6)])
def test_aspp(separable: bool, pool: tuple[int, int] | None) -> None:
    torch.manual_seed(2)
    act = nn.ReLU()
    layer = ASPP(
        3,
        5,
        [1, 2, 3],
        norm="BN",
        activation=act,
        pool_kernel_size=pool,
        use_depthwise_separable_conv=separable,
    ).eval()
    x = torch.randn(2, 3, 8, 12)
    branches = [branch(x) for branch in layer.convs[:4]]
    last = layer.convs[4][1]
    mean = x.mean((2, 3), keepdim=True) if pool is None else F.avg_pool2d(x, pool, 1)
    whole = F.interpolate(last(mean), (8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(layer(x), layer.project(torch.cat([*branches, whole], 1)))
    assert layer.convs[0].activation is not layer.project.activation
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_aspp_errors() -> None:
    with pytest.raises(ValueError, match="3 dilations, got 2"):
        ASPP(3, 5, [1, 2], norm="", activation=F.relu)
    with pytest.raises(ValueError, match=r"must divide the input size \(8, 8\)"):
        ASPP(3, 5, [1, 2, 3], norm="", activation=F.relu, pool_kernel_size=(3, 8))(torch.zeros(1, 3, 8, 8))


def test_aspp_drops_in_training_only() -> None:
    layer = ASPP(3, 5, [1, 2, 3], norm="", activation=F.relu, dropout=0.5)
    x = torch.rand(1, 3, 16, 16)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_initial_values() -> None:
    torch.manual_seed(3)
    conv = nn.Conv2d(64, 32, 3)
    c2_msra_fill(conv)
    assert conv.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    assert not conv.bias.any()
    c2_xavier_fill(conv)
    assert conv.weight.abs().max().item() == pytest.approx((3 / (64 * 9)) ** 0.5, rel=0.01)
    c2_msra_fill(nn.Linear(3, 4, bias=False))


def test_cross_entropy_of_nothing() -> None:
    x = torch.zeros(0, 5, requires_grad=True)
    y = cross_entropy(x, torch.zeros(0, dtype=torch.int64))
    y.backward()
    assert y == 0 and x.grad is not None
    logits, target = torch.randn(6, 5), torch.randint(0, 5, (6,))
    torch.testing.assert_close(
        cross_entropy(logits, target, label_smoothing=0.1),
        F.cross_entropy(logits, target, label_smoothing=0.1),
    )
    safe = empty_input_loss_func_wrapper(F.mse_loss)
    assert safe(x, x.detach()) == 0
    assert safe(logits, logits + 1, reduction="sum") == 30


def test_helpers() -> None:
    a = torch.eye(3)
    assert cat([a]) is a
    assert cat((a, a), dim=1).shape == (3, 6)
    with pytest.raises(TypeError, match="list or tuple"):
        cat(a)
    assert [i.tolist() for i in nonzero_tuple(a)] == [[0, 1, 2], [0, 1, 2]]
    assert shapes_to_tensor([3, 4]).tolist() == [3, 4]
    assert shapes_to_tensor([torch.tensor(3), 4]).tolist() == [3, 4]
    assert shapes_to_tensor([]).dtype == torch.int64
    assert move_device_like(a, a) is a
    assert ShapeSpec(channels=3, stride=4) == ShapeSpec(3, None, None, 4)
