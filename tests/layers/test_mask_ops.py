"""Pasting against one grid sample over the whole picture."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.layers import paste_masks_in_image
from detectron2.layers._paste import _paste_whole
from detectron2.structures import Boxes

SIZE = (40, 50)
BOXES = torch.tensor(
    [[5, 6, 30, 33], [-12.5, 3.3, 20, 60], [45, 2, 48.2, 4.1], [-30, -30, 90, 90], [10.2, 10.7, 11.1, 12.9]]
)


def slow_paste(masks: Tensor, boxes: Tensor) -> Tensor:
    """Soft masks; cut off one pixel outside of the box."""
    height, width = SIZE
    out = masks.new_zeros(len(masks), height, width)
    ys, xs = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        v, u = (ys - y0) / (y1 - y0) * 2 - 1, (xs - x0) / (x1 - x0) * 2 - 1
        grid = torch.stack([u.expand(height, width), v[:, None].expand(height, width)], -1)[None]
        soft = F.grid_sample(masks[i][None, None], grid, align_corners=False)[0, 0]
        rows = (ys > y0 // 1 - 1) & (ys < -(-y1 // 1) + 1)
        columns = (xs > x0 // 1 - 1) & (xs < -(-x1 // 1) + 1)
        out[i] = soft * (rows[:, None] & columns)
    return out


def close_to_cut(soft: Tensor, threshold: float) -> Tensor:
    return (soft - threshold).abs() < 1e-4


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(28, 28), (7, 5)])
def test_hard(threshold: float, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    masks = torch.rand(len(BOXES), *shape)
    soft = slow_paste(masks, BOXES)
    got = paste_masks_in_image(masks, BOXES, SIZE, threshold)
    assert got.dtype == torch.bool
    wrong = got != (soft >= threshold)
    assert not (wrong & ~close_to_cut(soft, threshold)).any()
    assert got.any()


def test_soft() -> None:
    torch.manual_seed(1)
    masks = torch.rand(len(BOXES), 28, 28)
    got = paste_masks_in_image(masks, Boxes(BOXES), SIZE, threshold=-1)
    assert got.dtype == torch.uint8
    assert (got.float() - slow_paste(masks, BOXES) * 255).abs().max() <= 1.01


@pytest.mark.parametrize("threshold", [0.5, -1.0])
def test_region_and_whole_image_agree(threshold: float) -> None:
    """The way for CPUs and the one for GPUs and graphs."""
    torch.manual_seed(2)
    masks = torch.rand(len(BOXES), 14, 14)
    a = paste_masks_in_image(masks, BOXES, SIZE, threshold)
    b = _paste_whole(masks, BOXES, *SIZE, threshold)
    assert (a != b).float().mean() < 1e-4


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([100, 100, 120, 130], id="beyond"),
        pytest.param([-50, -50, -20, -20], id="before"),
        pytest.param([10, 10, 10, 20], id="no width"),
        pytest.param([20, 10, 10, 20], id="inside out"),
        pytest.param([float("nan"), 0, 5, 5], id="nan"),
        pytest.param([0, 0, float("inf"), 5], id="inf"),
    ],
)
def test_boxes_that_cover_nothing(box: list[float]) -> None:
    masks, boxes = torch.ones(2, 8, 8), torch.tensor([box, [3, 3, 9, 9]])
    got = paste_masks_in_image(masks, boxes, SIZE)
    assert not got[0].any()
    assert got[1].sum() == 36
    assert torch.equal(_paste_whole(masks, boxes, *SIZE, 0.5), got)


def test_full_mask_fills_its_box() -> None:
    got = paste_masks_in_image(torch.ones(1, 28, 28), torch.tensor([[4, 5, 20, 30.0]]), SIZE)[0]
    want = torch.zeros(SIZE, dtype=torch.bool)
    want[5:30, 4:20] = True
    assert torch.equal(got, want)


def test_result_owns_its_memory() -> None:
    """Large results come from fresh pages: they can be written, and do not share."""
    masks, boxes = torch.ones(3, 4, 4), torch.tensor([[1, 1, 5, 5.0]]).expand(3, 4)
    a = paste_masks_in_image(masks, boxes, (700, 800))
    b = paste_masks_in_image(masks, boxes, (700, 800))
    a[0] = True
    assert a.sum() == 700 * 800 + 32
    assert b.sum() == 48


def test_shapes() -> None:
    assert paste_masks_in_image(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)
    assert paste_masks_in_image(torch.rand(2, 1, 4, 4), BOXES[:2], SIZE).shape == (2, *SIZE)
    assert paste_masks_in_image(torch.rand(2, 4, 4).half(), BOXES[:2], SIZE).dtype == torch.bool
    with pytest.raises(ValueError, match="2 masks"):
        paste_masks_in_image(torch.zeros(2, 4, 4), torch.zeros(3, 4), SIZE)
    with pytest.raises(ValueError, match=r"\[N, M, M\]"):
        paste_masks_in_image(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4), SIZE)
