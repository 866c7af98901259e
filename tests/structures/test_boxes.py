"""Boxes, formats and measures, against loops."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron2.structures import Boxes, BoxMode, pairwise_ioa, pairwise_iou, pairwise_point_box_distance
from detectron2.structures.boxes import matched_pairwise_iou, pairwise_intersection


def random_boxes(count: int) -> Boxes:
    near = torch.rand(count, 2) * 80
    return Boxes(torch.cat([near, near + torch.rand(count, 2) * 40], 1))


def slow_intersection(a: list[float], b: list[float]) -> float:
    w, h = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
    return max(w, 0) * max(h, 0)


def area(a: list[float]) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def test_pairwise_against_loops() -> None:
    torch.manual_seed(0)
    a, b = random_boxes(12), random_boxes(15)
    inter = torch.tensor([[slow_intersection(p, q) for q in b.tensor.tolist()] for p in a.tensor.tolist()])
    union = torch.tensor([[area(p) + area(q) for q in b.tensor.tolist()] for p in a.tensor.tolist()]) - inter
    torch.testing.assert_close(pairwise_intersection(a, b), inter)
    torch.testing.assert_close(pairwise_iou(a, b), inter / union)
    torch.testing.assert_close(pairwise_ioa(a, b), inter / b.area())
    torch.testing.assert_close(matched_pairwise_iou(a, b[:12]), pairwise_iou(a, b).diagonal())


def test_boxes_without_area_overlap_nothing() -> None:
    nothing = Boxes(torch.tensor([[5, 5, 5, 9], [9, 9, 4, 4], [3, 3, 3, 3.0]]))
    assert not pairwise_iou(nothing, Boxes(torch.tensor([[0, 0, 20, 20.0]]))).any()
    assert not pairwise_iou(nothing, nothing).any()
    assert not pairwise_ioa(Boxes(torch.tensor([[0, 0, 20, 20.0]])), nothing).any()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_measures_of_nothing(shape: tuple[int, int]) -> None:
    a, b = random_boxes(shape[0]), random_boxes(shape[1])
    assert pairwise_iou(a, b).shape == shape
    assert pairwise_ioa(a, b).shape == shape
    assert pairwise_point_box_distance(torch.zeros(shape[0], 2), b).shape == (*shape, 4)


def test_iou_has_gradients() -> None:
    torch.manual_seed(1)
    a, b = random_boxes(4), random_boxes(4)
    a.tensor.requires_grad_()
    pairwise_iou(a, b).sum().backward()
    assert a.tensor.grad is not None and a.tensor.grad.isfinite().all()


def test_point_distances() -> None:
    got = pairwise_point_box_distance(torch.tensor([[3.0, 4.0]]), Boxes([[1, 1, 10, 20]]))
    assert got.tolist() == [[[2, 3, 7, 16]]]


def test_matched_needs_equal_counts() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        matched_pairwise_iou(random_boxes(3), random_boxes(2))


SINGLE = [2, -1, np.int64(2), np.int32(0), torch.tensor(3), np.array(1)]


@pytest.mark.parametrize("item", SINGLE, ids=lambda i: f"{type(i).__name__}")
def test_every_kind_of_integer_picks_one(item) -> None:
    boxes = random_boxes(5)
    got = boxes[item]
    assert isinstance(got, Boxes)
    assert torch.equal(got.tensor, boxes.tensor[int(item)][None])


def test_indexing_lists_masks_slices() -> None:
    boxes = random_boxes(6)
    assert torch.equal(boxes[1:5:2].tensor, boxes.tensor[1:5:2])
    assert torch.equal(boxes[[4, 0]].tensor, boxes.tensor[[4, 0]])
    assert torch.equal(boxes[boxes.area() > 200].tensor, boxes.tensor[boxes.area() > 200])
    assert boxes[[]].tensor.shape == (0, 4)
    with pytest.raises(IndexError):
        boxes[6]


def test_four_boxes_are_not_one() -> None:
    """A result of shape [4, 4] must not be taken for a single row."""
    assert len(random_boxes(9)[:4]) == 4
    assert len(random_boxes(4)[torch.ones(4, dtype=torch.bool)]) == 4


def test_clip_scale_inside() -> None:
    boxes = Boxes([[-5, -5, 50, 60], [10, 10, 20, 20], [90, 90, 99, 99]])
    assert boxes.inside_box((50, 40)).tolist() == [False, True, False]
    assert boxes.inside_box((50, 40), boundary_threshold=100).tolist() == [True, True, True]
    same = boxes.tensor
    boxes.clip((50, 40))
    assert boxes.tensor.tolist() == [[0, 0, 40, 50], [10, 10, 20, 20], [40, 50, 40, 50]]
    assert same[0, 0] == -5
    assert boxes.nonempty().tolist() == [True, True, False]
    boxes.scale(2, 0.5)
    assert boxes.tensor[1].tolist() == [20, 5, 40, 10]
    assert boxes.get_centers()[1].tolist() == [30, 7.5]


def test_clip_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="1 of 2 boxes"):
        Boxes([[0, 0, 1, 1], [0, 0, float("inf"), 1]]).clip((3, 3))


@pytest.mark.parametrize("data", [[], np.zeros((0, 4)), torch.zeros(0), torch.zeros(0, 4)])
def test_no_boxes(data) -> None:
    assert Boxes(data).tensor.shape == (0, 4)
    assert Boxes(data).tensor.dtype == torch.float32
    assert list(Boxes(data)) == []


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"Boxes expects an \[N, 4\] tensor, got \(3, 5\)"):
        Boxes(torch.zeros(3, 5))


def test_copies() -> None:
    boxes = random_boxes(3)
    for other in (boxes.clone(), copy.deepcopy(boxes), pickle.loads(pickle.dumps(boxes)), boxes.to("cpu")):
        assert torch.equal(other.tensor, boxes.tensor)
    assert len(Boxes.cat([boxes, boxes[:1]])) == 4
    assert len(Boxes.cat([])) == 0
    with pytest.raises(TypeError, match="list or tuple"):
        Boxes.cat(boxes)


M = BoxMode
numbers = st.floats(-1000, 1000, allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(st.lists(numbers, min_size=4, max_size=4))
def test_formats_round_trip(box: list[float]) -> None:
    there = M.convert(box, M.XYXY_ABS, M.XYWH_ABS)
    assert M.convert(there, M.XYWH_ABS, M.XYXY_ABS) == pytest.approx(box, abs=1e-9)
    turned = M.convert(M.convert(there, M.XYWH_ABS, M.XYWHA_ABS), M.XYWHA_ABS, M.XYXY_ABS)
    if box[2] >= box[0] and box[3] >= box[1]:
        assert turned == pytest.approx(box, abs=1e-9)


@pytest.mark.parametrize(
    "modes", [(M.XYXY_ABS, M.XYWH_ABS), (M.XYWH_ABS, M.XYWHA_ABS), (M.XYWHA_ABS, M.XYXY_ABS)]
)
def test_kinds_of_input_agree(modes: tuple[BoxMode, BoxMode]) -> None:
    rows = np.random.default_rng(0).uniform(1, 50, (6, 5 if modes[0] == M.XYWHA_ABS else 4))
    want = np.array([M.convert(tuple(r), *modes) for r in rows.tolist()])
    for dtype in (np.float32, np.float64):
        array = M.convert(rows.astype(dtype), *modes)
        tensor = M.convert(torch.from_numpy(rows.astype(dtype)), *modes)
        assert array.dtype == dtype
        assert tensor.numpy().dtype == dtype
        np.testing.assert_allclose(array, want, atol=1e-4)
        np.testing.assert_allclose(tensor.numpy(), want, atol=1e-4)
    before = rows.copy()
    M.convert(rows, *modes)
    assert (rows == before).all()


def test_kind_is_kept() -> None:
    assert M.convert((1, 2, 3, 4), M.XYWH_ABS, M.XYXY_ABS) == (1, 2, 4, 6)
    assert M.convert([1, 2, 3, 4], M.XYWH_ABS, M.XYXY_ABS) == [1, 2, 4, 6]
    same = np.ones((2, 4))
    assert M.convert(same, M.XYXY_ABS, M.XYXY_ABS) is same
    assert M.convert(np.zeros((0, 4)), M.XYWH_ABS, M.XYXY_ABS).shape == (0, 4)


def test_impossible_conversions() -> None:
    with pytest.raises(NotImplementedError, match="relative"):
        M.convert([0, 0, 1, 1], M.XYWH_REL, M.XYXY_ABS)
    with pytest.raises(NotImplementedError, match="XYWHA_ABS to XYWH_ABS"):
        M.convert([0, 0, 1, 1, 1], M.XYWHA_ABS, M.XYWH_ABS)
    with pytest.raises(ValueError, match="5 numbers, got 4"):
        M.convert([0, 0, 1, 1], M.XYWHA_ABS, M.XYXY_ABS)
