"""Matching boxes to objects without a matrix of all pairs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detectron2.modeling import matcher as matching
from detectron2.modeling.matcher import Matcher, match_boxes
from detectron2.modeling.meta_arch import fcos
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.proposal_generator.rrpn import _break_ties
from detectron2.structures import Boxes, Instances, RotatedBoxes, boxes, pairwise_iou, pairwise_iou_rotated

sys.path.insert(0, str(Path(__file__).parent))
from _models import small_model


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made within has."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [
            x.untyped_storage().nbytes() // 4 for x in tree_leaves(result) if isinstance(x, torch.Tensor)
        ]
        self.count = max(self.count, *sizes, 0)
        return result


def some_boxes(count: int, seed: int, grid: float = 8) -> torch.Tensor:
    """XYXY on a coarse grid, so that many overlaps are equal."""
    generator = torch.Generator().manual_seed(seed)
    near = (torch.rand(count, 2, generator=generator) * 200 / grid).round() * grid
    return torch.cat(
        (near, near + (torch.rand(count, 2, generator=generator) * 80 / grid).ceil() * grid), dim=1
    )


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_CELLS_AT_ONCE", {"cpu": 2000, "": 2000})
    monkeypatch.setattr(boxes, "_PAIRS_AT_ONCE", {"": 500})


def same(first: tuple[torch.Tensor, ...], second: tuple[torch.Tensor, ...]) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("objects", [0, 1, 7, 50])
@pytest.mark.usefixtures("small_blocks")
def test_blocks_match_as_one_matrix(objects: int, low: bool) -> None:
    matcher = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=low)
    truths, found = Boxes(some_boxes(objects, 1)), Boxes(some_boxes(300, 2))
    same(match_boxes(matcher, pairwise_iou, truths, found), matcher(pairwise_iou(truths, found)))
    none = Boxes(torch.zeros(0, 4))
    same(match_boxes(matcher, pairwise_iou, truths, none), matcher(pairwise_iou(truths, none)))


@pytest.mark.usefixtures("small_blocks")
def test_rotated_blocks_match_as_one_matrix() -> None:
    def quality(a: RotatedBoxes, b: RotatedBoxes) -> torch.Tensor:
        return _break_ties(pairwise_iou_rotated(a, b))

    matcher = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)
    truths, found = (
        RotatedBoxes(torch.cat((b[:, :2], b[:, 2:] - b[:, :2], torch.full((len(b), 1), 30.0)), dim=1))
        for b in (some_boxes(20, 1), some_boxes(300, 2))
    )
    same(match_boxes(matcher, quality, truths, found), matcher(quality(truths, found)))


@pytest.mark.usefixtures("small_blocks")
def test_other_matchers_get_the_whole_matrix() -> None:
    class Strict(Matcher):
        def __call__(self, match_quality_matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            assert match_quality_matrix.shape == (50, 300)
            return super().__call__(match_quality_matrix)

    truths, found = Boxes(some_boxes(50, 1)), Boxes(some_boxes(300, 2))
    want = Matcher([0.5], [0, 1])(pairwise_iou(truths, found))
    same(match_boxes(Strict([0.5], [0, 1]), pairwise_iou, truths, found), want)


def test_pairwise_blocks_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Boxes(some_boxes(61, 1)), Boxes(some_boxes(40, 2))
    whole = [f(a, b) for f in (pairwise_iou, boxes.pairwise_ioa, boxes.pairwise_intersection)]
    monkeypatch.setattr(boxes, "_PAIRS_AT_ONCE", {"": 400})
    for f, want in zip((pairwise_iou, boxes.pairwise_ioa, boxes.pairwise_intersection), whole):
        with Largest() as largest:
            got = f(a, b)
        assert torch.equal(got, want)
        assert largest.count <= got.numel()
    a.tensor.requires_grad_()
    pairwise_iou(a, b).sum().backward()
    assert a.tensor.grad is not None and bool(a.tensor.grad.any())


def test_fcos_matches_cells_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("fcos")
    anchors = model.anchor_generator([torch.zeros(1, 1, 256 // s, 256 // s) for s in (8, 16, 32, 64, 128)])
    truths = Boxes(some_boxes(30, 3))
    whole = model._match_anchors(truths, anchors)
    monkeypatch.setattr(fcos, "_PAIRS_AT_ONCE", 900)
    assert torch.equal(model._match_anchors(truths, anchors), whole)
    assert (whole >= 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "fcos", "rotated"])
def test_labelling_a_large_image_takes_little_memory(name: str) -> None:
    """Objects and the anchors of 800 x 1333 pixels; all pairs at once would be more than 20 million numbers."""
    count = {"rotated": 30, "fcos": 1000}.get(name, 100)
    model = small_model(name)
    part = getattr(model, "proposal_generator", None) or model
    strides = (4, 8, 16, 32, 64) if part is not model else (8, 16, 32, 64, 128)
    anchors = part.anchor_generator([torch.zeros(1, 1, -(-800 // s), -(-1344 // s)) for s in strides])
    truth = Instances((800, 1333), gt_classes=torch.zeros(count, dtype=torch.int64))
    where = some_boxes(count, 4)
    truth.gt_boxes = Boxes(where)
    if name == "rotated":
        where[:, 2:] -= where[:, :2]
        truth.gt_boxes = RotatedBoxes(torch.cat((where, torch.zeros(count, 1)), dim=1))
    label = part.label_and_sample_anchors if part is not model else part.label_anchors
    with Largest() as largest:
        labels, _ = label(anchors, [truth])
    assert (labels[0] >= 0).any()
    assert largest.count <= 12e6


def test_ground_truth_needs_the_fields_of_the_proposals() -> None:
    truth = Instances((20, 20), gt_boxes=Boxes(torch.tensor([[1.0, 1, 6, 6]])), gt_classes=torch.ones(1))
    truth.extra = torch.tensor([3])

    def proposals(**fields: object) -> list[Instances]:
        found = Instances((20, 20), proposal_boxes=Boxes(torch.tensor([[0.0, 0, 5, 5]])))
        found.objectness_logits = torch.zeros(1)
        for name, value in fields.items():
            found.set(name, value)
        return [found]

    (joined,) = add_ground_truth_to_proposals([truth], proposals())
    assert set(joined.get_fields()) == {"proposal_boxes", "objectness_logits"} and len(joined) == 2
    (joined,) = add_ground_truth_to_proposals([truth], proposals(extra=torch.tensor([1])))
    assert joined.extra.tolist() == [1, 3]
    with pytest.raises(AssertionError, match="other"):
        add_ground_truth_to_proposals([truth], proposals(other=torch.ones(1)))
