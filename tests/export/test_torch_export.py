"""Whole models as graphs: made, written, read, and equal to the model."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detectron2.export import TracingAdapter, export_program, load_program, save_program
from detectron2.modeling.tensor_inference import outputs_to_instances


def _models() -> Any:
    path = Path(__file__).resolve().parents[1] / "modeling" / "_models.py"
    spec = importlib.util.spec_from_file_location("_models_for_export", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calm_model(name: str) -> nn.Module:
    """A small model whose scores are not all at the limits, so that their order is that of real detections."""
    model = _models().small_model(name).eval()
    with torch.no_grad():
        for layer in (
            model.roi_heads.box_predictor.cls_score,
            model.proposal_generator.rpn_head.objectness_logits,
        ):
            layer.weight.mul_(0.01)
    return model


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, height, width, generator=generator) * 255


def assert_same_instances(found: Any, wanted: Any) -> None:
    assert found.image_size == wanted.image_size
    assert len(found) == len(wanted) > 0
    assert torch.equal(found.pred_classes, wanted.pred_classes)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pred_boxes.tensor, wanted.pred_boxes.tensor, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_program_from_a_file_equals_the_model_at_any_size(tmp_path: Path) -> None:
    model = calm_model("mask_rcnn")
    program = export_program(model, picture(160, 135), min_size=65, max_size=640)
    path = tmp_path / "model.pt2"
    save_program(program, path)
    run = load_program(path).module()
    for seed, size in enumerate(((160, 135), (96, 200), (65, 65))):
        image = picture(*size, seed)
        with torch.no_grad():
            (wanted,) = model([{"image": image}])
            found = outputs_to_instances(run(image), size)
        assert_same_instances(found, wanted["instances"])
        assert (found.pred_masks == wanted["instances"].pred_masks).float().mean() > 0.999
    with pytest.raises((RuntimeError, AssertionError), match=r"65|size"):
        run(picture(40, 200))
    _other_process_agrees(path, tmp_path, picture(96, 200, 1), run)


def _other_process_agrees(path: Path, folder: Path, image: torch.Tensor, run: Any) -> None:
    """A process without this package gets the same from the file."""
    torch.save(image, folder / "image.pt")
    code = (
        "import sys, torch, torchvision\n"
        "folder = sys.argv[2]\n"
        "out = torch.export.load(sys.argv[1]).module()(torch.load(folder + '/image.pt'))\n"
        "assert 'detectron2' not in sys.modules\n"
        "torch.save({k: v.detach() for k, v in out.items()}, folder + '/out.pt')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(folder)], check=True, timeout=300)
    found = torch.load(folder / "out.pt")
    wanted = run(image)
    assert set(found) == {"boxes", "scores", "classes", "valid", "masks"}
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*create_unbacked_symint:FutureWarning")  # torchvision's
def test_adapter_exports_a_detector_with_its_own_outputs() -> None:
    model = calm_model("faster_rcnn")
    inputs = [{"image": picture(160, 135)}]
    adapter = TracingAdapter(model, inputs, lambda m, items: m.inference(items, do_postprocess=False))
    sizes = {1: torch.export.Dim("height", min=65, max=640), 2: torch.export.Dim("width", min=65, max=640)}
    program = torch.export.export(
        adapter, adapter.flattened_inputs, dynamic_shapes={"args": (sizes,)}, strict=True
    )
    image = picture(96, 200, 1)
    assert adapter.outputs_schema is not None
    (found,) = adapter.outputs_schema(program.module()(image))
    with torch.no_grad():
        (wanted,) = model.inference([{"image": image}], do_postprocess=False)
    assert_same_instances(found, wanted)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no tensor form for Linear"):
        export_program(nn.Linear(1, 1), picture(160, 160))
    program = torch.export.export(nn.ReLU(), (torch.rand(2),))
    with pytest.raises(ValueError, match=r"\.pt2"):
        save_program(program, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_example_must_be_an_image_within_the_limits() -> None:
    model = _models().small_model("faster_rcnn")
    with pytest.raises(ValueError, match=r"\[C, H, W\].*got \(5, 6\)"):
        export_program(model, torch.rand(5, 6))
    with pytest.raises(ValueError, match=r"80 x 200.*129\.\.4096"):
        export_program(model, picture(80, 200))


def test_programs_are_written_and_read(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.rand(4, 3),))
    save_program(program, tmp_path / "folder" / "linear.pt2")
    x = torch.rand(4, 3)
    assert torch.equal(load_program(tmp_path / "folder" / "linear.pt2").module()(x), program.module()(x))
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["linear.pt2"]
