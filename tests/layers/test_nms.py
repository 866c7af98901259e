"""Suppression against the textbook loop, upright and rotated."""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron2.layers import batched_nms, batched_nms_rotated, nms, nms_rotated, pairwise_iou_rotated
from detectron2.layers import nms as nms_function
from detectron2.layers.nms import _nms_class_by_class, nms_of_few_groups


def random_boxes(count: int, size: float = 100.0) -> torch.Tensor:
    near = torch.rand(count, 2) * size
    return torch.cat([near, near + 1 + torch.rand(count, 2) * size / 2], 1)


def random_rotated(count: int, size: float = 100.0) -> torch.Tensor:
    return torch.cat(
        [torch.rand(count, 2) * size, 2 + torch.rand(count, 2) * size / 2, torch.rand(count, 1) * 720 - 360],
        1,
    )


def greedy(iou: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, threshold: float) -> list[int]:
    """One box after another, by falling score, unless a kept one of its class overlaps it too much."""
    kept: list[int] = []
    over, classes = (iou > threshold).tolist(), idxs.tolist()
    for i in scores.argsort(descending=True, stable=True).tolist():
        if not any(classes[i] == classes[k] and over[k][i] for k in kept):
            kept.append(i)
    return kept


def test_plain_nms_is_torchvisions() -> None:
    assert nms_function is nms
    near = torch.rand(50, 2)
    boxes, scores = torch.cat((near, near + 0.5), dim=1), torch.rand(50)
    assert torch.equal(nms(boxes, scores, 0.4), torchvision.ops.nms(boxes, scores, 0.4))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batched_nms(threshold: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    boxes, scores, idxs = random_boxes(150).to(dtype), torch.rand(150), torch.randint(0, 5, (150,))
    iou = torchvision.ops.box_iou(boxes, boxes)
    assert batched_nms(boxes, scores, idxs, threshold).tolist() == greedy(iou, scores, idxs, threshold)


@pytest.mark.parametrize("shift", [-5000.0, 0.0, 5000.0])
def test_many_classes_keep_precision(shift: float) -> None:
    """With 1203 classes on large pictures, single precision could not tell small boxes apart."""
    torch.manual_seed(1)
    boxes = random_boxes(600, 30.0) + shift
    scores, idxs = torch.rand(600), torch.randint(0, 40, (600,)) * 30
    idxs[-1] = 1202
    boxes = torch.cat([boxes, torch.tensor([[shift, shift, shift + 4000, shift + 4000]])])
    scores, idxs = torch.cat([scores, torch.ones(1)]), torch.cat([idxs, torch.tensor([7])])
    want = _nms_class_by_class(boxes, scores, idxs, 0.5)
    assert torch.equal(batched_nms(boxes, scores, idxs, 0.5), want)


def test_class_by_class_equals_offsets_with_ties() -> None:
    torch.manual_seed(2)
    boxes = random_boxes(400)
    scores = (torch.rand(400) * 10).floor() / 10
    idxs = torch.randint(0, 7, (400,))
    want = batched_nms(boxes, scores, idxs, 0.4)
    got = _nms_class_by_class(boxes, scores, idxs, 0.4)
    assert torch.equal(got, want)
    assert (scores[want].diff() <= 0).all()


def test_large_input_goes_class_by_class() -> None:
    torch.manual_seed(3)
    boxes, scores, idxs = random_boxes(1200, 300.0), torch.rand(1200), torch.randint(0, 9, (1200,))
    want = torchvision.ops.batched_nms(boxes, scores, idxs, 0.5)
    assert torch.equal(batched_nms(boxes, scores, idxs, 0.5), want)


def test_half_precision_scores_and_boxes() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], dtype=torch.bfloat16)
    keep = batched_nms(
        boxes, torch.tensor([0.5, 0.75, 0.25], dtype=torch.bfloat16), torch.zeros(3).long(), 0.5
    )
    assert keep.tolist() == [1, 2]


@pytest.mark.parametrize("function", [batched_nms, batched_nms_rotated])
def test_nothing_in_nothing_out(function) -> None:
    width = 4 if function is batched_nms else 5
    keep = function(torch.zeros(0, width), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert keep.dtype == torch.int64
    assert keep.shape == (0,)


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[N, 4\].*\(2, 5\)"):
        batched_nms(torch.zeros(2, 5), torch.zeros(2), torch.zeros(2), 0.5)
    with pytest.raises(ValueError, match=r"\[N, 5\].*\(2, 4\)"):
        nms_rotated(torch.zeros(2, 4), torch.zeros(2), 0.5)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("count", [1, 60, 300])
def test_batched_nms_rotated(threshold: float, count: int) -> None:
    torch.manual_seed(count)
    boxes, scores, idxs = random_rotated(count), torch.rand(count), torch.randint(0, 4, (count,)) * 3
    iou = pairwise_iou_rotated(boxes, boxes)
    assert batched_nms_rotated(boxes, scores, idxs, threshold).tolist() == greedy(
        iou, scores, idxs, threshold
    )
    assert nms_rotated(boxes, scores, threshold).tolist() == greedy(iou, scores, idxs * 0, threshold)


def test_rotated_nms_of_upright_boxes_is_nms() -> None:
    torch.manual_seed(4)
    boxes, scores = random_boxes(200), torch.rand(200)
    rotated = torch.cat(
        [(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], torch.zeros(200, 1)], 1
    )
    assert torch.equal(nms_rotated(rotated, scores, 0.45), nms(boxes, scores, 0.45))


def test_rotated_nms_knows_turned_twins() -> None:
    boxes = torch.tensor(
        [[50, 50, 40, 20, 0], [50, 50, 20, 40, 90], [50, 50, 40, 20, 180], [50, 50, 40, 20, 90.0]]
    )
    assert nms_rotated(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), 0.5).tolist() == [0, 3]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.floats(0.05, 0.95), st.integers(0, 10**6))
def test_order_of_input_does_not_matter(count: int, threshold: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 5, generator=generator) * torch.tensor([30, 30, 25, 25, 360.0])
    scores = torch.randperm(count, generator=generator).float()
    mixed = torch.randperm(count, generator=generator)
    keep = nms_rotated(boxes, scores, threshold)
    assert torch.equal(mixed[nms_rotated(boxes[mixed], scores[mixed], threshold)], keep)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.5, 0.6, 0.7]), st.booleans())
def test_nms_of_few_groups_is_that_in_float64(seed: int, threshold: float, whole: bool) -> None:
    """Small boxes far from the origin, ties of scores, and IoUs that equal the threshold."""
    torch.manual_seed(seed)
    span = float(2 ** torch.randint(3, 11, ()))
    corner = torch.rand(120, 2) * span + torch.tensor([0.0, 2.0**15 - 4 * span])
    boxes = torch.cat((corner, corner + 2**-8 + torch.rand(120, 2) * span), dim=1)
    if whole:  # all of a corner, so that one holds the other and the IoU is a ratio of whole numbers
        boxes = torch.cat((torch.zeros(120, 2), torch.randint(1, 11, (120, 2))), dim=1).float() + 8
    scores, idxs = (torch.rand(120) * 9).floor() / 9, torch.randint(16, (120,))
    idxs = idxs % int(torch.randint(1, 17, ()))
    want = batched_nms(boxes, scores, idxs, threshold)
    assert torch.equal(nms_of_few_groups(boxes, scores, idxs, threshold), want)
    assert torch.equal(_nms_class_by_class(boxes, scores, idxs, threshold), want)


def test_nms_of_few_groups_has_room_for_the_smallest_and_the_largest() -> None:
    sides = torch.tensor([2.0**-8, 1.0, 2.0**15]).repeat(32)
    boxes = torch.cat((torch.zeros(96, 2), sides[:, None].expand(-1, 2)), dim=1)
    idxs = torch.arange(16).repeat_interleave(6)
    keep = nms_of_few_groups(boxes, torch.linspace(1, 0, 96), idxs, 1e-6)
    assert keep.tolist() == batched_nms(boxes, torch.linspace(1, 0, 96), idxs, 1e-6).tolist()
    assert len(keep) == 32  # of the smallest and the next, one
