"""Overlap of rotated boxes against the polygon library."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity
from shapely.geometry import Polygon, box

from detectron2.layers import pairwise_iou_rotated


def polygon(values: list[float]) -> Polygon:
    x, y, w, h, angle = values
    # y points down in pictures, so that counter-clockwise there is clockwise for shapely
    turned = affinity.rotate(box(-w / 2, -h / 2, w / 2, h / 2), -angle, origin=(0, 0))
    return affinity.translate(turned, x, y)


def slow_iou(a: list[float], b: list[float]) -> float:
    p, q = polygon(a), polygon(b)
    inter = p.intersection(q).area
    return inter / (p.area + q.area - inter)


def random_rotated(count: int) -> torch.Tensor:
    return torch.cat(
        [torch.rand(count, 2) * 60, 1 + torch.rand(count, 2) * 50, torch.rand(count, 1) * 720 - 360], 1
    )


def test_against_polygons() -> None:
    torch.manual_seed(0)
    a, b = random_rotated(20), random_rotated(25)
    want = torch.tensor([[slow_iou(p, q) for q in b.tolist()] for p in a.tolist()])
    torch.testing.assert_close(pairwise_iou_rotated(a, b), want, atol=1e-5, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([0.0, 30.0, 45.0, 90.0, 135.0, 180.0, -90.0, 270.0, 360.0]),
    st.sampled_from([0.0, 1e-5, -1e-3, 90.0, 180.0, 45.0]),
)
def test_shared_edges_and_corners(pose: tuple[int, int, int, int], angle: float, turn: float) -> None:
    """Boxes on a grid share sides and corners all the time: nothing may be counted twice or never."""
    a, b = [0.0, 0.0, 8.0, 6.0, angle], [*map(float, pose), angle + turn]
    got = pairwise_iou_rotated(torch.tensor([a]).double(), torch.tensor([b]).double())
    assert abs(got.item() - slow_iou(a, b)) < 1e-5


def test_known_pairs() -> None:
    a = torch.tensor([[50, 50, 40, 20, 30.0]])
    for other, want in (
        ([50, 50, 40, 20, 30], 1.0),
        ([50, 50, 40, 20, 210], 1.0),
        ([50, 50, 20, 40, 120], 1.0),
        ([50, 50, 20, 10, 30], 0.25),
        ([50, 50, 400, 200, 77], 0.01),
        ([500, 50, 40, 20, 30], 0.0),
        ([50, 50, 0, 0, 0], 0.0),
    ):
        got = pairwise_iou_rotated(a, torch.tensor([other]).float())
        assert got.item() == pytest.approx(want, abs=1e-6)


def test_symmetric_and_within_bounds() -> None:
    torch.manual_seed(1)
    a, b = random_rotated(80), random_rotated(90)
    iou = pairwise_iou_rotated(a, b)
    torch.testing.assert_close(iou, pairwise_iou_rotated(b, a).T, atol=1e-6, rtol=1e-5)
    assert iou.min() >= 0
    assert iou.max() <= 1


def test_far_from_the_origin() -> None:
    """Only differences of positions count, so large coordinates lose nothing."""
    torch.manual_seed(2)
    a, b = random_rotated(10).round(), random_rotated(10).round()
    move = torch.tensor([16384.0, -8192.0, 0, 0, 0])
    torch.testing.assert_close(
        pairwise_iou_rotated(a + move, b + move), pairwise_iou_rotated(a, b), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty(shape: tuple[int, int]) -> None:
    assert pairwise_iou_rotated(torch.zeros(shape[0], 5), torch.zeros(shape[1], 5)).shape == shape


def test_half_precision_gives_single() -> None:
    a = torch.tensor([[8, 8, 4, 2, 45.0]])
    assert pairwise_iou_rotated(a.half(), a.half()).dtype == torch.float32
    assert pairwise_iou_rotated(a.half(), a.half()).item() == pytest.approx(1.0)


def test_gradients() -> None:
    torch.manual_seed(3)
    a = (random_rotated(3) + torch.tensor([20, 20, 20, 20, 0])).double().requires_grad_()
    b = (random_rotated(4) + torch.tensor([20, 20, 20, 20, 0])).double().requires_grad_()
    assert (pairwise_iou_rotated(a, b) > 0).any()
    assert torch.autograd.gradcheck(pairwise_iou_rotated, (a, b), eps=1e-5, atol=1e-4)


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"boxes2 must be \[N, 5\]"):
        pairwise_iou_rotated(torch.zeros(2, 5), torch.zeros(2, 4))
