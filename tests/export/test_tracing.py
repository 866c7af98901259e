"""Traces of whole detectors, as C++ programs load them, and graphs for images with next to nothing in them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detectron2.export import TracingAdapter, export_program, flatten_to_tuple
from detectron2.modeling._selection import class_aware_nms_mask
from detectron2.modeling.roi_heads.detections import select_detections
from detectron2.modeling.tensor_inference import outputs_to_instances
from detectron2.structures import Instances, heatmaps_to_keypoints

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "modeling"))
from _models import CONFIGS, small_model

# That tracing is deprecated, and that checks of arguments are not part of a trace.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
DENSE = ("retinanet", "fcos")


def infer(name: str, postprocess: bool) -> Callable[..., Any]:
    """What is traced: one image in; Instances, or for a panoptic model also scores, out."""

    def run(model: Any, image: Tensor) -> Any:
        items = [{"image": image}]
        if name in DENSE:
            return model(items)[0]["instances"]
        if name == "rpn":
            return model(items)[0]["proposals"]
        if name == "panoptic" or not postprocess:
            return model.inference(items, do_postprocess=False)
        return model.inference(items)[0]["instances"]

    return run


def picture(height: int, width: int, seed: int) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255


def check_trace(name: str, postprocess: bool) -> None:
    model, run = small_model(name), infer(name, postprocess)
    adapter = TracingAdapter(model, picture(160, 136, 0), run)
    traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    assert adapter.inputs_schema is not None and adapter.outputs_schema is not None
    for seed, size in enumerate(((160, 136), (96, 200), (224, 192))):
        image = picture(*size, seed)
        found, _ = flatten_to_tuple(adapter.outputs_schema(traced(image)))
        with torch.no_grad():
            wanted, _ = flatten_to_tuple(run(model, image))
        assert sum(t.numel() for t in wanted) > 10
        for got, want in zip(found, wanted, strict=True):
            assert got.shape == want.shape
            if got.dtype == torch.bool:  # a pixel at the threshold may fall either way
                assert (got != want).float().mean() < 1e-3
            else:
                torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-2)


def test_a_trace_equals_the_model_at_other_sizes() -> None:
    check_trace("rpn", False)


@pytest.mark.slow
@pytest.mark.parametrize("postprocess", [False, True])
@pytest.mark.parametrize(
    "name", ["faster_rcnn", "mask_rcnn", "keypoint_rcnn", "cascade", "c4", "retinanet", "fcos", "panoptic", "vitdet", "swin"]
)  # fmt: skip
def test_traces_of_all_kinds_of_models(name: str, postprocess: bool) -> None:
    if postprocess and name in (*DENSE, "panoptic"):
        pytest.skip("has one form")
    check_trace(name, postprocess)


def test_several_images_are_traced_together() -> None:
    model = small_model("rpn")

    def run(model: Any, first: Tensor, second: Tensor) -> Any:
        return model([{"image": first}, {"image": second}])

    adapter = TracingAdapter(model, (picture(128, 160, 0), picture(160, 128, 1)), run)
    traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    images = (picture(96, 200, 2), picture(200, 64, 3))
    with torch.no_grad():
        wanted, _ = flatten_to_tuple(run(model, *images))
    for got, want in zip(traced(*images), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-2)


def test_traces_of_keypoints_follow_the_boxes() -> None:
    def boxes(count: int, seed: int) -> Tensor:
        corner, side = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed)) * 60
        return torch.cat((corner, corner + side), dim=1)

    traced = torch.jit.trace(
        heatmaps_to_keypoints, (torch.rand(2, 3, 14, 14), boxes(2, 0)), check_trace=False
    )
    for count in (5, 1, 0):
        maps = torch.randn(count, 3, 14, 14)
        found, want = traced(maps, boxes(count, 1)), heatmaps_to_keypoints(maps, boxes(count, 1))
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-3)


def test_what_a_trace_would_fix_is_refused() -> None:
    model = small_model("panoptic")
    adapter = TracingAdapter(model, picture(64, 64, 0), lambda m, x: m([{"image": x}])[0]["instances"])
    with pytest.raises(NotImplementedError, match=r"do_postprocess=False.*export_program"):
        torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)


class _Suppression(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor) -> Tensor:
        return class_aware_nms_mask(boxes, scores, groups, valid, 0.5)


class _Detections(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
        return select_detections(boxes, scores, (100, 100), 0.5, 0.5, 4)


@pytest.mark.parametrize("boxed", [4, 5])
def test_exported_suppression_takes_any_number_of_boxes(boxed: int) -> None:
    boxes = torch.rand(6, boxed) * 20 + torch.tensor([0.0, 0, 20, 20, 0][:boxed])
    example = (boxes, torch.rand(6), torch.randint(0, 2, (6,)), torch.ones(6, dtype=torch.bool))
    rows = torch.export.Dim("rows", min=2, max=100)
    program = torch.export.export(
        _Suppression(), example, dynamic_shapes=({0: rows}, {0: rows}, {0: rows}, {0: rows}), strict=True
    ).module()
    for count in (0, 1, 2, 6):
        valid = torch.arange(6) < count
        given = (*example[:3], valid)
        assert torch.equal(program(*given), _Suppression()(*given))
        assert program(*given).any() == (count > 0)


def test_exported_selection_answers_when_nothing_or_one_box_is_found() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 20, 60, 60], [21, 21, 60, 60]]).repeat(1, 2)
    scores = torch.full((3, 3), 0.1)
    program = torch.export.export(_Detections(), (boxes, scores), strict=True).module()
    # The second box suppresses the third.
    for cells, count in (((), 0), (((1, 0),), 1), (((1, 0), (2, 0)), 1), (((0, 1), (1, 0)), 2)):
        some = scores.clone()
        for row, column in cells:
            some[row, column] = 0.9 - 0.1 * row
        *found, real = program(boxes, some)
        *wanted, all_real = _Detections()(boxes, some)
        assert int(real.sum()) == int(all_real.sum()) == count
        for got, want in zip(found, wanted):
            assert torch.equal(got[real], want[all_real])


def quieten(state: dict[str, Tensor], amount: float, proposals: bool = True) -> None:
    """Lower all scores by an amount, in place; without proposals, shrink those to nothing."""
    for name, value in state.items():
        if name.endswith("head.cls_score.bias"):
            value -= amount
        elif name.endswith("cls_score.bias"):
            value[-1] += amount  # of background
        elif name.endswith("anchor_deltas.bias") and not proposals:
            value -= 1000


def find(model: Any, image: Tensor) -> Instances:
    with torch.no_grad():
        (found,) = model([{"image": image}])
    return found.get("instances", found.get("proposals"))


def amount_for_one(model: nn.Module, image: Tensor) -> float:
    """By how much scores must be lowered until one detection is left."""
    low, high = -50.0, 50.0
    for _ in range(50):
        amount = (low + high) / 2
        other = copy.deepcopy(model)
        quieten(other.state_dict(), amount)
        count = len(find(other, image))
        if count == 1:
            return amount
        low, high = (amount, high) if count else (low, amount)
    raise AssertionError("two detections have the same score")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"semantic", "rotated"}))
def test_programs_answer_when_nothing_or_one_box_is_found(name: str) -> None:
    model: Any = copy.deepcopy(small_model(name))
    heads = getattr(model, "roi_heads", None)
    predictors = [] if heads is None else [m for m in heads.modules() if hasattr(m, "test_score_thresh")]
    for part in (model, *predictors):
        if hasattr(part, "test_score_thresh"):
            part.test_score_thresh = 0.1
    image = picture(160, 136, 1)
    program: Any = export_program(model, picture(160, 136, 0), min_size=129, max_size=640).module()
    model = copy.deepcopy(model)  # the program's parameters are those of its model
    calm = [(1000.0, True)]
    calm += [(0.0, False)] if name not in DENSE else []
    calm += [(amount_for_one(model, image), True)] if name != "rpn" else []
    for amount, proposals in calm:
        states = (model.state_dict(), program.state_dict())
        before = [{key: value.clone() for key, value in state.items()} for state in states]
        for state in states:
            quieten(state, amount, proposals)
        want = find(model, image)
        found = outputs_to_instances(program(image), (160, 136))
        if name != "rpn" or not proposals:
            assert len(want) == (proposals and amount < 1000)
        assert len(found) == len(want)
        boxes = "proposal_boxes" if name == "rpn" else "pred_boxes"
        torch.testing.assert_close(found.get(boxes).tensor, want.get(boxes).tensor, rtol=1e-3, atol=1e-2)
        for state, old in zip(states, before):
            for key, value in old.items():
                state[key].copy_(value)
