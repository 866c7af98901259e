"""Models as functions of tensors: equal to the models, exportable whole, compilable whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from detectron2.export import export_program
from detectron2.modeling.tensor_inference import TensorInference, outputs_to_instances

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
            picture = image(height, width)["image"]
            expected, found = graph(picture), compiled(picture)
            for key, value in expected.items():
                compare(key, found[key], value)


@pytest.mark.slow
def test_models_without_a_tensor_form_are_refused() -> None:
    with pytest.raises(TypeError, match="RRPN"):
        TensorInference(small_model("rotated"))
