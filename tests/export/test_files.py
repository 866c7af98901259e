"""Whole models as files: written, proved, read, and refused."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detectron2.data.transforms import AugmentationList, RandomFlip, ResizeShortestEdge
from detectron2.export import ExportOptions, export_model, load_exported
from detectron2.export.formats import FORMATS, format_of
from detectron2.export.formats.base import Format, optional
from detectron2.export.metadata import describe_resize, side_limits
from detectron2.export.proof import Agreement, Difference, Scene, Tolerance
from detectron2.modeling import build_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "modeling"))
from _models import small_config

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {"classes": ["a", "b", "c", "d", "e"], "category_ids": [2, 3, 5, 7, 11]}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino")


def table() -> Any:
    """The program that tries all architectures; its models and pictures are those of the tests."""
    spec = importlib.util.spec_from_file_location("export_table", ROOT / "tools" / "export_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def export(model: nn.Module, path: Path, to: str, **options: Any) -> Any:
    static = options.pop("static", (96, 128))
    proof = {name: options.pop(name) for name in ("judge", "max_ap_drop") if name in options}
    return export_model(
        model,
        path,
        table().pictures(),
        options=ExportOptions(to, static=static, **options),
        metadata={**CLASSES, "min_size": 96, "max_size": 128, "input_format": "BGR"},
        names=["one.jpg", "two.jpg"],
        **proof,
    )


@functools.lru_cache(maxsize=1)
def shallow_mask_rcnn() -> nn.Module:
    """A Mask R-CNN on one feature map, whose graph is quickly made. Shared: leave it as it is."""
    one = [
        *("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res2"]),
        *("MODEL.RPN.IN_FEATURES", ["res2"], "MODEL.ROI_HEADS.IN_FEATURES", ["res2"]),
        *("MODEL.ANCHOR_GENERATOR.SIZES", [[32]], "MODEL.ROI_MASK_HEAD.NUM_CONV", 1),
        *("MODEL.ROI_BOX_HEAD.NUM_FC", 1, "MODEL.PIXEL_STD", [57.0, 57.0, 57.0]),
    ]
    torch.manual_seed(0)
    model: Any = build_model(small_config("mask_rcnn", *one)).eval()
    nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.1)
    return model


def test_a_mask_rcnn_as_torchscript_gives_what_the_model_gives(tmp_path: Path) -> None:
    model = shallow_mask_rcnn()
    found = export(model, tmp_path / "new" / "model", "torchscript", static=None)
    assert found.path.name == "model.ts" and not found.problems
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"model.ts", "model.ts.agreement.md"}
    text = Path(f"{found.path}.agreement.md").read_text()
    assert text == found.table() and "| one.jpg | 93 x 128 |" in text and text.count("| blank |") == 2
    assert all(d.objects > 0 for d in found.differences)
    exported = load_exported(found.path)
    assert exported.metadata["classes"] == CLASSES["classes"] and exported.metadata["format"] == "torchscript"
    picture = table().pictures()[0]
    (result,) = exported([picture])
    image = exported.resize(picture)
    with torch.no_grad():
        (wanted,) = model([{"image": image, "height": 160, "width": 220}])
    assert result["instances"].image_size == (160, 220)
    torch.testing.assert_close(result["instances"].pred_boxes.tensor, wanted["instances"].pred_boxes.tensor)
    assert torch.equal(result["instances"].pred_masks, wanted["instances"].pred_masks)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mask R-CNN for pictures of one size, which takes a tenth of the time that one for any size takes."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export(shallow_mask_rcnn(), path, "onnx")
    return path


def test_a_mask_rcnn_as_onnx_gives_what_the_model_gives(onnx_file: Path) -> None:
    import onnx

    graph = onnx.load(onnx_file).graph
    assert [i.name for i in graph.input] == ["image"]
    assert [o.name for o in graph.output] == ["boxes", "scores", "classes", "valid", "masks"]
    kinds = {t.type.tensor_type.elem_type for t in (*graph.value_info, *graph.output, *graph.input)}
    assert onnx.TensorProto.DOUBLE not in kinds
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    exported = load_exported(onnx_file)
    assert exported.metadata["outputs"]["boxes"] == [12, 4]
    assert exported.metadata["static"] == [96, 128] and exported.metadata["sides"] is None
    assert exported.metadata["score_threshold"] == 0.0 and exported.metadata["most_detections"] == 12
    assert exported.metadata["versions"].keys() >= {"detectron2", "torch", "onnx"}
    one, two = exported(table().pictures())
    assert one["instances"].image_size == (160, 220) and two["instances"].image_size == (200, 140)
    assert len(one["instances"]) and one["instances"].pred_masks.shape[1:] == (160, 220)
    with pytest.raises(ValueError, match="up to 96 x 128"):
        exported.predict([{"image": torch.zeros(3, 97, 128)}])


def test_the_page_runs_a_file_without_this_package(onnx_file: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- plain ONNX Runtime -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found is not None and len([line for line in found[1].splitlines() if line]) <= 20
    code = found[1].replace("> 0.5", "> 0.1") + "\nassert 'torch' not in sys.modules\n"
    # Of the size of the file, so that nothing is resized.
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(onnx_file), str(tmp_path / "a.png")],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    exported = load_exported(onnx_file)
    pixels = np.asarray(Image.open(tmp_path / "a.png"))[:, :, ::-1]
    wanted = exported([np.ascontiguousarray(pixels)])[0]["instances"]
    wanted = wanted[wanted.scores > 0.1]
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == len(wanted) > 0
    for row, box, score, label in zip(rows, wanted.pred_boxes.tensor, wanted.scores, wanted.pred_classes):
        assert row[0] == CLASSES["classes"][label] and abs(float(row[1]) - score) < 1e-3
        torch.testing.assert_close(torch.tensor([float(v) for v in row[2:]]), box, rtol=0, atol=0.06)


class _Wrong(Format):
    """A format whose files are off by some pixels."""

    name, suffix, precisions, read_by = "wrong", ".wrong", ("fp32", "int8"), "nothing"
    shift = 0.5

    def write(self, graph: Any, path: Path, metadata: Any, precision: str) -> None:
        assert graph.names
        path.write_text(json.dumps(metadata))
        self.model = graph.model

    def read(self, path: Path) -> Any:
        from detectron2.modeling.tensor_inference import TensorInference

        def run(image: torch.Tensor) -> Any:
            with torch.no_grad():
                outputs = TensorInference(self.model)(image)
            return outputs | {"boxes": outputs["boxes"] + self.shift * outputs["valid"][..., None]}

        return run, json.loads(path.read_text())


def test_a_file_that_does_not_agree_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "wrong", _Wrong())
    model = shallow_mask_rcnn()
    with pytest.raises(RuntimeError, match=r"model\.wrong was not written(.|\n)*one\.jpg at 93 x 128: box: "):
        export(model, tmp_path / "model", "wrong", static=None)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(_Wrong, "shift", 0.001)
    assert not export(model, tmp_path / "model", "wrong", static=None).problems


class _Swapped(_Wrong):
    """A format whose files give the results of a batch in the wrong order."""

    shift = 0.0

    def read(self, path: Path) -> Any:
        run, about = super().read(path)
        return lambda images: {name: value.flip(0) for name, value in run(images).items()}, about


def test_pictures_of_a_batch_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "wrong", _Swapped())
    with pytest.raises(RuntimeError, match=r"model\.wrong was not written"):
        export(shallow_mask_rcnn(), tmp_path / "model", "wrong", batch=2)


def test_of_8_bits_ap_decides_where_there_are_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "wrong", _Wrong())
    monkeypatch.setattr(_Wrong, "shift", 40.0)  # no object is where it was
    words: dict[str, Any] = {"precision": "int8", "max_ap_drop": 1.0}
    with pytest.raises(RuntimeError, match=r"one\.jpg at 96 x 128: the .* lacks . of"):
        export(shallow_mask_rcnn(), tmp_path / "model", "wrong", **words)
    figures = {
        0.495: "",
        0.485: "box_AP falls by 1.50 points of 100, from 0.5000 to 0.4850; at most 1 are allowed",
    }
    for after, problem in figures.items():

        def judge(exported: Any, after: float = after) -> Any:
            return {"box_AP": 0.5 if exported is None else after}

        with pytest.raises(RuntimeError, match=problem) if problem else nullcontext():
            export(shallow_mask_rcnn(), tmp_path / "model", "wrong", judge=judge, **words)
        assert (tmp_path / "model.wrong").is_file() != bool(problem)
        (tmp_path / "model.wrong").unlink(missing_ok=True)


def test_how_far_ap_falls() -> None:
    seen = Difference(objects=1)
    scene = Scene("a", torch.zeros(3, 4, 4))
    found = Agreement(Path("m.onnx"), [scene], [seen], 1.0, 1.0, 1.0, 1.0, Tolerance())
    found.figures = {"box_AP": (0.5, 0.48), "box_AP50": (0.9, 0.1), "PQ": (None, None), "mIoU": (0.3, 0.4)}
    assert found.drops == {"box_AP": 2.0, "mIoU": -10.0} and not found.problems
    assert "may fall by 2 points of 100; the most that one falls is 2.00." in found.table()
    found.max_ap_drop = 1.9
    assert len(found.problems) == 1
    found.figures = {"mask_AP": (0.5, None)}
    assert found.drops == {"mask_AP": 50.0} and "from 0.5000 to undefined" in found.problems[0]


def test_nothing_found_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "wrong", _Wrong())
    model: Any = shallow_mask_rcnn()
    monkeypatch.setattr(model.roi_heads.box_predictor, "test_score_thresh", 0.99)
    with pytest.raises(RuntimeError, match="proves nothing"):
        export(model, tmp_path / "model", "wrong", static=None)
    with pytest.raises(ValueError, match="at least one"):
        export_model(model, tmp_path / "model", [], options=ExportOptions("wrong"))


def test_a_part_without_a_tensor_form_is_named(tmp_path: Path) -> None:
    class OwnHeads(nn.Module):
        pass

    model: Any = shallow_mask_rcnn()
    heads = model.roi_heads
    try:
        model.roi_heads = OwnHeads()
        with pytest.raises(TypeError, match="no tensor form for OwnHeads"):
            export(model, tmp_path / "model", "pt2")
    finally:
        model.roi_heads = heads
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ExportOptions("onx"), "onnx"),
        (ExportOptions("onnx", "bf16"), "bf16 can be written as pt2, torchscript, aoti"),
        (ExportOptions("pt2", "int8"), "onnx, openvino"),
        (ExportOptions("pt2", batch=0), "1 or more"),
        (ExportOptions("pt2", static=(0, 5)), "1 pixel or more"),
        (ExportOptions("torchscript", batch=2), "one image at a time"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: ExportOptions, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        options.format()


def test_rotated_boxes_have_no_torchscript(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="TorchScript cannot hold GeneralizedRCNN: suppression of rotated boxes"
    ):
        export(table().calm_model("rotated"), tmp_path / "model", "torchscript")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_files_are_told_apart_and_damaged_ones_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        load_exported(tmp_path / "none.onnx")
    other = tmp_path / "model.pth"
    other.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"\.onnx"):
        format_of(other)
    damaged = tmp_path / "model.pt2"
    damaged.write_bytes(b"x")
    with pytest.raises(ValueError, match="damaged"):
        load_exported(damaged)
    script = tmp_path / "script.ts"
    torch.jit.save(torch.jit.script(nn.ReLU()), str(script))
    with pytest.raises(ValueError, match="no metadata"):
        load_exported(script)
    with pytest.raises(ImportError, match=r"detectron2\[export\]"):
        optional("no_such_package.part", "a test")


def test_metadata_name_resizing_and_sizes() -> None:
    resize = ResizeShortestEdge((640, 640), 1000)
    assert describe_resize(resize) == {"min_size": 640, "max_size": 1000}
    assert describe_resize(AugmentationList([RandomFlip(), resize])) == {"min_size": 640, "max_size": 1000}
    assert describe_resize(AugmentationList([])) == {"min_size": None, "max_size": None}
    assert side_limits(table().calm_model("faster_rcnn"), 1333) == (65, 4096)


def test_the_table_of_the_page_is_whole() -> None:
    program = table()
    outcomes = program.read_kept()["outcomes"]
    assert {name: sorted(found) for name, found in outcomes.items()} == {
        n: sorted(FORMATS) for n in program.NAMES
    }
    assert program.table(outcomes) in program.DOCUMENT.read_text(encoding="utf-8")
    refused = [
        (name, to) for name, found in outcomes.items() for to, one in found.items() if not one["agrees"]
    ]
    assert sorted(refused) == [("rotated", "onnx"), ("rotated", "openvino"), ("rotated", "torchscript")]


@functools.lru_cache(maxsize=1)
def model_and_graphs(name: str) -> tuple[nn.Module, dict[Any, Any]]:
    """One architecture, whose graph is made once for all formats."""
    return table().calm_model(name), {}


@pytest.mark.slow
@pytest.mark.parametrize("to", list(FORMATS))
@pytest.mark.parametrize("name", list(table().NAMES))
def test_every_architecture_in_every_format(name: str, to: str) -> None:
    """All give what their models give; only rotated boxes are refused where no runtime knows them."""
    program = table()
    model, graphs = model_and_graphs(name)
    outcome = program.try_one(model, name, to, graphs)
    if name == "rotated" and to not in ("pt2", "aoti"):
        assert not outcome["agrees"]
        assert "export it as pt2" in outcome["why"] or "rotated boxes" in outcome["why"]
    else:
        assert outcome["agrees"], outcome
    recorded = json.loads(program.OUTCOMES.read_text())["outcomes"].get(name, {}).get(to, outcome)
    assert recorded["agrees"] == outcome["agrees"], "run tools/export_table.py anew"
