"""Deformable convolution against plain convolution and loops."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.layers import DeformConv, ModulatedDeformConv


def sample(image: Tensor, y: float, x: float) -> Tensor:
    """Bilinear value of [C, H, W], zeros outside."""
    height, width = image.shape[1:]
    total = image.new_zeros(image.shape[0])
    top, left = int(y // 1), int(x // 1)
    for i, wy in ((top, 1 - (y - top)), (top + 1, y - top)):
        for j, wx in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= i < height and 0 <= j < width:
                total = total + wy * wx * image[:, i, j]
    return total


def slow(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int, pad: int
) -> Tensor:
    """3x3, one group of channels, one group of offsets, one image."""
    out_h, out_w = offset.shape[2:]
    out = x.new_zeros(1, weight.shape[0], out_h, out_w)
    for i in range(out_h):
        for j in range(out_w):
            for k in range(9):
                y = i * stride - pad + k // 3 + offset[0, 2 * k, i, j].item()
                z = j * stride - pad + k % 3 + offset[0, 2 * k + 1, i, j].item()
                value = sample(x[0], y, z) * mask[0, k, i, j]
                out[0, :, i, j] += weight[:, :, k // 3, k % 3] @ value
    return out + bias.view(1, -1, 1, 1)


def test_modulated_against_loops() -> None:
    torch.manual_seed(0)
    layer = ModulatedDeformConv(3, 4, 3, stride=2, padding=1).double()
    torch.nn.init.normal_(layer.bias)
    x, offset = torch.randn(1, 3, 6, 7).double(), torch.randn(1, 18, 3, 4).double() * 2
    mask = torch.rand(1, 9, 3, 4).double()
    want = slow(x, offset, mask, layer.weight, layer.bias, 2, 1)
    torch.testing.assert_close(layer(x, offset, mask), want)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("deformable_groups", [1, 2])
def test_no_offset_is_convolution(groups: int, deformable_groups: int) -> None:
    torch.manual_seed(1)
    layer = DeformConv(
        4, 6, 3, stride=2, padding=2, dilation=2, groups=groups, deformable_groups=deformable_groups
    )
    x = torch.randn(2, 4, 9, 10)
    want = F.conv2d(x, layer.weight, None, 2, 2, 2, groups)
    offset = torch.zeros(2, 18 * deformable_groups, *want.shape[2:])
    torch.testing.assert_close(layer(x, offset), want, atol=1e-5, rtol=1e-5)


def test_gradients() -> None:
    torch.manual_seed(2)
    layer = ModulatedDeformConv(2, 2, 3, padding=1).double()
    inputs = [torch.randn(1, c, 4, 4).double().requires_grad_() for c in (2, 18, 9)]
    assert torch.autograd.gradcheck(layer, inputs, fast_mode=True)
    layer(*inputs).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.any()


def test_empty_batch() -> None:
    x = torch.zeros(0, 4, 8, 8, requires_grad=True)
    y = ModulatedDeformConv(4, 6, 3, padding=1)(x, torch.zeros(0, 18, 8, 8), torch.zeros(0, 9, 8, 8))
    assert y.shape == (0, 6, 8, 8)
    y.sum().backward()
    assert DeformConv(4, 6, 3, stride=2)(x, torch.zeros(0, 18, 3, 3)).shape == (0, 6, 3, 3)


def test_norm_and_activation_follow() -> None:
    torch.manual_seed(3)
    plain = DeformConv(4, 6, 1)
    full = DeformConv(4, 6, 1, norm=torch.nn.BatchNorm2d(6), activation=F.relu).eval()
    full.load_state_dict(plain.state_dict(), strict=False)
    x, offset = torch.randn(1, 4, 5, 5), torch.zeros(1, 2, 5, 5)
    torch.testing.assert_close(full(x, offset), full.norm(plain(x, offset)).relu())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    layer = DeformConv(4, 6, 3, padding=1)
    x, offset = torch.randn(1, 4, 6, 6), torch.randn(1, 18, 6, 6)
    want = layer(x, offset)
    got = layer.to(dtype)(x.to(dtype), offset)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), want, atol=0.1, rtol=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.float()(x, offset).dtype == torch.bfloat16


def test_errors_name_the_numbers() -> None:
    with pytest.raises(ValueError, match="divisible by groups=3"):
        DeformConv(4, 6, 3, groups=3)
    with pytest.raises(ValueError, match="no bias"):
        DeformConv(4, 6, 3, bias=True)
    with pytest.raises(ValueError, match=r"offset must be \(1, 18, 6, 6\).*\(1, 9, 6, 6\)"):
        DeformConv(4, 6, 3, padding=1)(torch.zeros(1, 4, 6, 6), torch.zeros(1, 9, 6, 6))
