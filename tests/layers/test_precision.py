"""Every operator in half precision, under autocast, and with nothing to work on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from detectron2.layers import (
    ASPP,
    Conv2d,
    ConvTranspose2d,
    DeformConv,
    DepthwiseSeparableConv2d,
    Linear,
    ModulatedDeformConv,
    ROIAlign,
    ROIAlignRotated,
    batched_nms,
    batched_nms_rotated,
    ciou_loss,
    diou_loss,
    get_norm,
    pairwise_iou_rotated,
    paste_masks_in_image,
)
from detectron2.layers.losses import giou_loss, sigmoid_focal_loss, smooth_l1_loss
from detectron2.structures import BitMasks, Boxes, heatmaps_to_keypoints, pairwise_iou


def boxes(n: int) -> Tensor:
    near = (torch.rand(n, 2) * 24).round()
    return torch.cat((near, near + 2 + (torch.rand(n, 2) * 20).round()), 1)


def rotated(n: int) -> Tensor:
    return torch.cat((boxes(n), (torch.rand(n, 1) * 90).round()), 1)


def rois(rows: Tensor) -> Tensor:
    return torch.cat((torch.zeros(len(rows), 1), rows), 1)


def maps(n: int, channels: int = 4) -> Tensor:
    return torch.randn(n, channels, 12, 12)


def boxes_of(rows: Tensor) -> Boxes:
    return Boxes(rows.float())


# name: (operator, inputs for n); of which only floating-point ones that are no coordinates change their type
VALUES: dict[str, tuple[Callable[..., Any], Callable[[int], tuple[Tensor, ...]]]] = {
    "conv": (Conv2d(4, 4, 3, norm=nn.GroupNorm(2, 4)), lambda n: (maps(n),)),
    "conv_transpose": (ConvTranspose2d(4, 4, 2, stride=2), lambda n: (maps(n),)),
    "linear": (Linear(4, 3), lambda n: (torch.randn(n, 4),)),
    "aspp": (ASPP(4, 4, [1, 2, 3], norm="LN", activation=nn.ReLU()), lambda n: (maps(n),)),
    "depthwise": (DepthwiseSeparableConv2d(4, 4, norm1="LN", norm2="LN"), lambda n: (maps(n),)),
    "deform_conv": (DeformConv(4, 4, 3, padding=1), lambda n: (maps(n), maps(n, 18))),
    "modulated": (
        ModulatedDeformConv(4, 4, 3, padding=1),
        lambda n: (maps(n), maps(n, 18), maps(n, 9).sigmoid()),
    ),
    "roi_align": (lambda x, r: ROIAlign((2, 2), 0.5, 2)(x, r), lambda n: (maps(1), rois(boxes(n)))),
    "roi_align_rotated": (
        lambda x, r: ROIAlignRotated((2, 2), 0.5, 0)(x, r),
        lambda n: (maps(1), rois(rotated(n))),
    ),
    **{f"norm_{name}": (get_norm(name, 4), lambda n: (maps(n),)) for name in ("FrozenBN", "LN")},
}
COORDINATES: dict[str, tuple[Callable[..., Any], Callable[[int], tuple[Tensor, ...]]]] = {
    "iou": (lambda a, b: pairwise_iou(boxes_of(a), boxes_of(b)), lambda n: (boxes(n), boxes(3))),
    "iou_rotated": (pairwise_iou_rotated, lambda n: (rotated(n), rotated(3))),
    "nms": (lambda b, s: batched_nms(b, s, s.long(), 0.5), lambda n: (boxes(n), torch.rand(n))),
    "nms_rotated": (
        lambda b, s: batched_nms_rotated(b, s, s.long(), 0.5),
        lambda n: (rotated(n), torch.rand(n)),
    ),
    "paste": (
        lambda m, b: paste_masks_in_image(m, b, (40, 50)).sum((1, 2)),
        lambda n: (torch.ones(n, 4, 4), boxes(n)),
    ),
    "crop": (
        lambda b: BitMasks(torch.ones(len(b), 40, 50)).crop_and_resize(b, 4).sum((1, 2)),
        lambda n: (boxes(n),),
    ),
    "keypoints": (heatmaps_to_keypoints, lambda n: (torch.rand(n, 2, 4, 4).round(), boxes(n))),
    **{loss.__name__: (loss, lambda n: (boxes(n), boxes(n))) for loss in (giou_loss, diou_loss, ciou_loss)},
    "smooth_l1": (lambda a, b: smooth_l1_loss(a, b, 0.1), lambda n: (boxes(n), boxes(n))),
    "focal": (
        lambda x, y: sigmoid_focal_loss(x, y, alpha=0.25, gamma=2.0),
        lambda n: (torch.randn(n, 3).round(), torch.rand(n, 3).round()),
    ),
}
ALL = VALUES | COORDINATES


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize("name", ALL)
def test_nothing_gives_nothing(name: str) -> None:
    function, make = ALL[name]
    for result in tree_leaves(function(*make(0))):
        assert result.numel() == 0
        assert tree_leaves(function(*make(2)))[0].shape[1:] == result.shape[1:]


@pytest.mark.parametrize("name", VALUES)
def test_gradients_of_nothing(name: str) -> None:
    function, make = VALUES[name]
    x, *rest = make(0)
    x.requires_grad_()
    function(x, *rest).sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_autocast_is_close_to_single_precision(name: str, dtype: torch.dtype) -> None:
    function, make = ALL[name]
    inputs = make(5)
    want = tree_leaves(function(*inputs))
    with torch.autocast("cpu", dtype=dtype):
        got = tree_leaves(function(*inputs))
    for a, b in zip(got, want, strict=True):
        largest = max(1.0, float(b.detach().float().abs().max()))
        torch.testing.assert_close(a.to(b.dtype), b, rtol=0.05, atol=0.1 * largest)


@pytest.mark.parametrize("name", COORDINATES)
def test_half_precision_inputs(name: str) -> None:
    """Coordinates and values here are exact in half precision: so are the results, up to their own rounding."""
    function, make = COORDINATES[name]
    inputs = [x.bfloat16().float() for x in make(5)]
    want = tree_leaves(function(*inputs))
    got = tree_leaves(function(*(x.bfloat16() for x in inputs)))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.to(b.dtype), b, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("name", ["conv", "aspp", "depthwise", "deform_conv", "norm_FrozenBN", "norm_LN"])
def test_gradients(name: str) -> None:
    function, make = VALUES[name]
    assert isinstance(function, nn.Module)
    layer = function.double()
    try:
        inputs = [x[:, :, :5, :5].double().requires_grad_() for x in make(1)]
        assert torch.autograd.gradcheck(layer, inputs, fast_mode=True)
    finally:
        layer.float()
