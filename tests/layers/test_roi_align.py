"""Region pooling against nested loops."""

import math

import pytest
import torch
from torch import Tensor

from detectron2.layers import ROIAlign, ROIAlignRotated, _roi_align_grad, roi_align, roi_align_rotated
from detectron2.layers.rotated.align import _adaptive_op


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """[C] value at a position; up to one pixel outside the border repeats, beyond is zero."""
    height, width = image.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return image.new_zeros(image.shape[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    upper = (1 - fx) * image[:, top, left] + fx * image[:, top, right]
    lower = (1 - fx) * image[:, bottom, left] + fx * image[:, bottom, right]
    return (1 - fy) * upper + fy * lower


def slow_align(
    images: Tensor, rois: Tensor, bins: tuple[int, int], scale: float, ratio: int, aligned: bool = True
) -> Tensor:
    """[R, 6] rotated rois; those of five numbers are upright ones."""
    out = images.new_zeros(len(rois), images.shape[1], *bins)
    for r, roi in enumerate(rois.tolist()):
        if len(roi) == 5:
            image, x0, y0, x1, y1 = roi
            w, h = (x1 - x0) * scale, (y1 - y0) * scale
            if not aligned:
                w, h = max(w, 1.0), max(h, 1.0)
            cx, cy, angle = x0 * scale + w / 2, y0 * scale + h / 2, 0.0
        else:
            image, cx, cy, w, h, angle = roi
            cx, cy, w, h = cx * scale, cy * scale, w * scale, h * scale
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        down = ratio if ratio > 0 else math.ceil(h / bins[0])
        across = ratio if ratio > 0 else math.ceil(w / bins[1])
        half = 0.5 if aligned else 0.0
        for i in range(bins[0]):
            for j in range(bins[1]):
                for k in range(down * across):
                    v = (i + (k // across + 0.5) / down) * h / bins[0] - h / 2
                    u = (j + (k % across + 0.5) / across) * w / bins[1] - w / 2
                    y, x = cy + v * cos - u * sin - half, cx + v * sin + u * cos - half
                    out[r, :, i, j] += bilinear(images[int(image)], y, x) / (down * across)
    return out


UPRIGHT = torch.tensor(
    [[0, 4, 6, 30, 40], [1, -9, -4, 20, 12], [1, 30, 30, 70, 60], [0, 90, 90, 99, 99], [1, 5, 5, 6, 7.0]]
)
ROTATED = torch.tensor(
    [
        [0, 20, 20, 24, 12, 30],
        [1, 20, 22, 30, 10, -90],
        [1, 0, 0, 40, 16, 135],
        [0, 90, 10, 8, 8, 5],
        [0, 30, 20, 3, 2, 400.0],
    ]
)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("bins", [(3, 4), (1, 1)])
def test_upright(ratio: int, aligned: bool, bins: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 12, 14, dtype=torch.float64)
    got = ROIAlign(bins, 0.25, ratio, aligned=aligned)(x, UPRIGHT)
    torch.testing.assert_close(got, slow_align(x, UPRIGHT, bins, 0.25, ratio, aligned), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("limit", [1, 1 << 22])
def test_gradient_of_upright(monkeypatch, ratio: int, aligned: bool, limit: int) -> None:
    monkeypatch.setattr(_roi_align_grad, "_MAX_WEIGHTS", limit)  # one region at a time, and all at once
    torch.manual_seed(0)
    rois = torch.cat((UPRIGHT, torch.tensor([[1.0, 10, 10, 10, 10], [0, 20, 20, 12, 30]]))).double()
    x = torch.randn(2, 3, 12, 14, dtype=torch.float64, requires_grad=True)
    fast, slow = (
        roi_align(x, rois, (3, 4), 0.25, ratio, aligned),
        slow_align(x, rois, (3, 4), 0.25, ratio, aligned),
    )
    weights = torch.randn_like(slow)
    (want,) = torch.autograd.grad(slow, x, weights)
    (got,) = torch.autograd.grad(fast, x, weights)
    torch.testing.assert_close(got, want)


def test_gradient_without_regions() -> None:
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    pooled = roi_align(x, torch.zeros(0, 5), 2, 1.0, 0, True)
    (grad,) = torch.autograd.grad(pooled.sum(), x)
    assert grad.shape == x.shape and not grad.any()


def test_boxes_of_each_image_in_a_list() -> None:
    x = torch.randn(2, 3, 12, 14)
    listed = [UPRIGHT[UPRIGHT[:, 0] == i] for i in range(2)]
    got = roi_align(x, [b[:, 1:] for b in listed], 3, 0.25, 2, True)
    torch.testing.assert_close(got, roi_align(x, torch.cat(listed), 3, 0.25, 2, True))


@pytest.mark.parametrize("ratio", [0, 1, 3])
@pytest.mark.parametrize("bins", [(3, 4), (1, 1)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_rotated(ratio: int, bins: tuple[int, int], channels_last: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 12, 14, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    got = ROIAlignRotated(bins, 0.25, ratio)(x, ROTATED)
    torch.testing.assert_close(got, slow_align(x, ROTATED, bins, 0.25, ratio), atol=1e-6, rtol=1e-6)


def test_rotated_by_nothing_is_upright() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 4, 20, 20)
    corners = UPRIGHT[:3]
    centre, size = (corners[:, 1:3] + corners[:, 3:]) / 2, corners[:, 3:] - corners[:, 1:3]
    rois = torch.cat([corners[:, :1], centre, size, torch.zeros(3, 1)], 1)
    for ratio in (0, 2):
        want = ROIAlign((7, 5), 0.5, ratio)(x, corners)
        torch.testing.assert_close(ROIAlignRotated((7, 5), 0.5, ratio)(x, rois), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ratio", [0, 2])
def test_quarter_turn_turns_the_result(ratio: int) -> None:
    torch.manual_seed(2)
    x = torch.randn(1, 2, 30, 30)
    flat = ROIAlignRotated((6, 6), 1.0, ratio)(x, torch.tensor([[0, 15, 15, 12, 12, 0.0]]))
    turned = ROIAlignRotated((6, 6), 1.0, ratio)(x, torch.tensor([[0, 15, 15, 12, 12, 90.0]]))
    torch.testing.assert_close(turned, flat.rot90(-1, (2, 3)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("ratio", [0, 2])
def test_gradients(ratio: int) -> None:
    torch.manual_seed(3)
    x = torch.randn(2, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    for layer, boxes in ((ROIAlign, UPRIGHT), (ROIAlignRotated, ROTATED)):
        pool = layer((2, 3), 0.25, ratio)
        assert torch.autograd.gradcheck(lambda x: pool(x, boxes.double()), (x,), fast_mode=True)


def test_operator_for_graphs_has_right_gradients() -> None:
    torch.manual_seed(4)
    table = torch.randn(2 * 6 * 7, 2, dtype=torch.float64, requires_grad=True)
    rois = (ROTATED * torch.tensor([1, 0.2, 0.2, 0.2, 0.2, 1])).double()
    assert torch.autograd.gradcheck(lambda t: _adaptive_op(t, rois, 6, 7, 2, 3), (table,), fast_mode=True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(_adaptive_op, (table, rois, 6, 7, 2, 3), test_utils=checks)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    x = torch.randn(2, 3, 12, 14, requires_grad=True)
    want = ROIAlignRotated((3, 4), 0.25, 0)(x, ROTATED)
    monkeypatch.setattr("detectron2.layers.rotated.align._SAMPLES_AT_ONCE", 30)
    torch.testing.assert_close(ROIAlignRotated((3, 4), 0.25, 0)(x, ROTATED), want)


@pytest.mark.parametrize(
    "layer", [ROIAlign((2, 3), 0.5, 0), ROIAlignRotated((2, 3), 0.5, 0), ROIAlignRotated((2, 3), 0.5, 2)]
)
def test_no_regions(layer: torch.nn.Module) -> None:
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    y = layer(x, torch.zeros(0, 5 if isinstance(layer, ROIAlign) else 6))
    assert y.shape == (0, 4, 2, 3)
    y.sum().backward()
    assert x.grad is not None and not x.grad.any()


def test_region_without_extent_is_zero() -> None:
    y = ROIAlignRotated((2, 2), 1.0, 0)(torch.ones(1, 1, 5, 5), torch.tensor([[0, 2, 2, 0, 0, 0.0]]))
    assert not y.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_positions(dtype: torch.dtype) -> None:
    """bfloat16 knows only every eighth pixel from 1024 on; the regions must not move."""
    x = torch.arange(1400.0).repeat(4, 1)[None, None] / 1400
    rois = torch.tensor([[0, 1201, 0, 1203, 4.0]])
    want = ROIAlign((1, 1), 1.0, 2)(x, rois)
    got = ROIAlign((1, 1), 1.0, 2)(x.to(dtype), rois)
    assert got.dtype == dtype
    assert got.item() == pytest.approx(want.item(), abs=4e-3)
    turned = torch.tensor([[0, 1202, 2, 2, 4, 0.0]])
    assert ROIAlignRotated((1, 1), 1.0, 2)(x.to(dtype), turned).item() == pytest.approx(want.item(), abs=4e-3)


def test_autocast() -> None:
    x, rois = torch.randn(1, 2, 8, 8), torch.tensor([[0, 1, 1, 6, 6.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = ROIAlign((2, 2), 1.0, 2)(x, rois)
        turned = roi_align_rotated(x, torch.tensor([[0, 3.5, 3.5, 5, 5, 0.0]]), 2, 1.0, 2)
    torch.testing.assert_close(got, ROIAlign((2, 2), 1.0, 2)(x, rois))
    torch.testing.assert_close(turned, got, atol=1e-5, rtol=1e-5)


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[R, 5\].*\(2, 4\)"):
        ROIAlign((2, 2), 1.0, 0)(torch.zeros(1, 1, 4, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"\[R, 6\].*\(2, 5\)"):
        ROIAlignRotated((2, 2), 1.0, 0)(torch.zeros(1, 1, 4, 4), torch.zeros(2, 5))
