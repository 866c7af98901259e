"""Models as functions of tensors: equal to the models, exportable whole, compilable whole."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detectron2.export import export_program
from detectron2.modeling import GeneralizedRCNN, ROIHeads
from detectron2.modeling.tensor_inference import TensorInference, Tensors, outputs_to_instances

sys.path.insert(0, str(Path(__file__).parent))
from _models import image, small_model

NAMES = (
    "faster_rcnn",
    "mask_rcnn",
    "keypoint_rcnn",
    "cascade",
    "retinanet",
    "fcos",
    "semantic",
    "panoptic",
    "rpn",
    "rotated",
    "vitdet",
    "swin",
)


def compare(key: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    if key == "panoptic_seg":  # masks are cut at one half: a pixel may fall on either side
        assert found.shape == expected.shape
        assert (found != expected).float().mean() < 1e-3
    else:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_model(name: str) -> None:
    model = small_model(name)
    item = image(160, 135)
    with torch.no_grad():
        (expected,) = model([item])
        found = TensorInference(model)(item["image"])
    if "sem_seg" in expected:
        torch.testing.assert_close(found["sem_seg"], expected["sem_seg"])
    if "panoptic_seg" in expected:
        segments, info = expected["panoptic_seg"]
        assert torch.equal(found["panoptic_seg"], segments)
        for segment in info:
            if segment["isthing"]:
                assert found["thing_segments"][segment["instance_id"]] == segment["id"]
            else:
                assert found["stuff_segments"][segment["category_id"]] == segment["id"]
    if "valid" in found:
        want = expected.get("instances", expected.get("proposals"))
        got = outputs_to_instances(found, (160, 135))
        assert len(got) == len(want) > 0
        for field, value in got.get_fields().items():
            other = want.get(field)
            a, b = (getattr(v, "tensor", v) for v in (value, other))
            torch.testing.assert_close(a, b, msg=field)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_exports_whole_with_any_size(name: str) -> None:
    graph = TensorInference(small_model(name))
    program = export_program(graph.model, image(160, 135)["image"], min_size=129, max_size=1024)
    exported = program.module()
    for seed, (height, width) in enumerate(((160, 135), (200, 170), (140, 131))):
        picture = image(height, width, seed)["image"]
        with torch.no_grad():
            expected = graph(picture)
        found = exported(picture)
        assert set(found) == set(expected)
        for key, value in expected.items():
            compare(key, found[key], value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "keypoint_rcnn", "retinanet", "panoptic"])
def test_compiles_without_a_break(name: str) -> None:
    graph = TensorInference(small_model(name))
    compiled = torch.compile(graph, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for height, width in ((160, 135), (200, 170)):
            picture = image(height, width, seed=1)["image"]  # no two scores are equal, whose order is open
            expected, found = graph(picture), compiled(picture)
            for key, value in expected.items():
                compare(key, found[key], value)


class Heads(ROIHeads):
    """The simplest heads: the best proposals are the detections."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def detect_tensors(
        self, features: Tensors, boxes: torch.Tensor, real: torch.Tensor, size: tuple[int, int]
    ) -> Tensors:
        return {"boxes": boxes[:, :3], "valid": real[:, :3], "scores": real[:, :3].float()}


@pytest.mark.slow
def test_heads_of_ones_own_join() -> None:
    model = small_model("rpn")
    mine = GeneralizedRCNN(
        backbone=model.backbone,
        proposal_generator=model.proposal_generator,
        roi_heads=Heads(),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )
    item = image(160, 135)
    with torch.no_grad():
        found = TensorInference(mine)(item["image"])
        exported = export_program(mine, item["image"]).module()(item["image"])
    assert found["boxes"].shape == (3, 4) and bool(found["valid"].all())
    torch.testing.assert_close(exported["boxes"], found["boxes"])


def test_a_part_without_the_method_is_named() -> None:
    class Strange(nn.Module):
        pass

    with pytest.raises(TypeError, match=r"Strange.*predict_tensors\(\)"):
        TensorInference(Strange())
    model = copy.copy(small_model("mask_rcnn"))
    model._modules = dict(model._modules, roi_heads=copy.copy(model.roi_heads))
    model.roi_heads._modules = dict(model.roi_heads._modules, mask_head=Strange())
    with pytest.raises(TypeError, match=r"Strange.*predict_tensors\(\)"):
        TensorInference(model)
    model._modules["proposal_generator"] = Strange()
    with pytest.raises(TypeError, match=r"Strange.*propose_tensors\(\)"):
        TensorInference(model)


def test_the_number_of_detections_must_be_limited() -> None:
    model = copy.deepcopy(small_model("mask_rcnn"))
    model.roi_heads.box_predictor.test_topk_per_image = -1
    with pytest.raises(ValueError, match="test_topk_per_image"):
        TensorInference(model)


@pytest.mark.parametrize("square", [0, 96])
def test_padding_is_that_of_the_model(square: int) -> None:
    model = copy.copy(small_model("semantic"))
    seen = []

    class Constrained(nn.Module):
        size_divisibility = 64
        padding_constraints = {"square_size": square, "size_divisibility": 16}

        def forward(self, x: torch.Tensor) -> Tensors:
            seen.append(x)
            return {"map": x}

    class Identity(nn.Module):
        def forward(self, features: Tensors, targets: None) -> tuple[torch.Tensor, Tensors]:
            return features["map"], {}

    model._modules = dict(model._modules, backbone=Constrained(), sem_seg_head=Identity())
    item = image(70, 50)
    model([item])
    TensorInference(model)(item["image"])
    assert seen[0].shape[-2:] == ((96, 96) if square else (80, 64))
    assert torch.equal(seen[0], seen[1])
    if square:  # once, the graph was cropped silently
        large = image(97, 50)
        for run in (lambda: model([large]), lambda: TensorInference(model)(large["image"])):
            with pytest.raises(ValueError, match="square_size=96"):
                run()
