"""Precisions, batches and fixed sizes of exported files, from runs on the command line. Minutes, so all are slow."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from detectron2.cli import main
from detectron2.export import load_exported
from detectron2.model_zoo import get_config
from detectron2.modeling import build_model

from .conftest import TINY, write_discs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino")]
RETINANET = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: RetinaNet
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {STEM_OUT_CHANNELS: 16, RES2_OUT_CHANNELS: 16, WIDTH_PER_GROUP: 8, NORM: BN, OUT_FEATURES: [res2, res3]}
  FPN: {IN_FEATURES: [res2, res3], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[16, 24], [32, 48]]}
  RETINANET: {IN_FEATURES: [p2, p3], NUM_CONVS: 1, SCORE_THRESH_TEST: 0.0}
INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}
SOLVER: {STEPS: [], WARMUP_ITERS: 5}
"""
CONFIGS = {"mask_rcnn": TINY, "retinanet": RETINANET}
FORMS = [
    *(("pt2", "fp16"), ("pt2", "bf16"), ("torchscript", "fp16"), ("torchscript", "bf16")),
    *(("onnx", "fp16"), ("onnx", "int8"), ("openvino", "fp16"), ("openvino", "int8")),
    *(("aoti", "fp16"), ("aoti", "bf16")),
]
PACKAGES = {"onnx": ["onnxscript", "onnxruntime"], "openvino": ["onnxscript", "openvino", "nncf"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of some steps, by architecture."""
    folder = tmp_path_factory.mktemp("forms")
    discs, found = write_discs(folder / "discs"), {}
    for name, text in CONFIGS.items():
        config, found[name] = folder / f"{name}.yaml", folder / name
        config.write_text(text)
        data = ["--train", str(discs), "--val", str(discs), "--model", str(config), "--weights", "none"]
        length = ["--epochs", "20", "--batch-size", "3", "--workers", "0", "--device", "cpu"]
        options = ["SOLVER.BASE_LR", "0.01", "SOLVER.CLIP_GRADIENTS.ENABLED", "True"]
        options += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
        assert main(["train", *data, *length, "--output", str(found[name]), *options]) == 0
    return found


def need(to: str) -> None:
    for package in PACKAGES.get(to, []):
        pytest.importorskip(package)


def export(run: Path, to: str, *words: str) -> Any:
    need(to)
    assert main(["export", str(run), "--to", to, "--limit", "2", *words]) == 0


@pytest.mark.parametrize(("to", "precision"), FORMS)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_precision_comes_with_the_ap_before_and_after(
    runs: dict[str, Path], name: str, to: str, precision: str
) -> None:
    # Compiling a graph for any size takes minutes.
    size = ["--static", "64", "80"] if to == "aoti" else []
    export(runs[name], to, "--precision", precision, "--max-ap-drop", "20", *size)
    (table,) = runs[name].glob(f"model-{precision}.*agreement.md")
    text = table.read_text()
    table.unlink()
    assert (
        load_exported(table.with_name(table.name.removesuffix(".agreement.md"))).metadata["precision"]
        == precision
    )
    figures = dict(re.findall(r"\| (\w+_AP) \| (.*) \|", text))
    assert figures.keys() == ({"box_AP", "mask_AP"} if name == "mask_rcnn" else {"box_AP"})
    for value in figures.values():
        before, after = map(float, value.split(" | "))
        assert after == pytest.approx(before, abs=0.2 if precision == "int8" else 0.1)


@pytest.mark.parametrize("to", ["pt2", "onnx", "openvino", "aoti"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_batch_of_one_size(runs: dict[str, Path], name: str, to: str, tmp_path: Path) -> None:
    file = tmp_path / "batch"
    export(runs[name], to, "--batch", "2", "--static", "64", "80", "--output", str(file))
    (written,) = (
        p for p in tmp_path.iterdir() if p.name.startswith("batch") and p.suffix not in (".md", ".bin")
    )
    about = load_exported(written).metadata
    assert about["batch"] == 2 and about["static"] == [64, 80] and about["outputs"]["boxes"][0] == 2
    data = runs[name].parent / "discs" / "discs.json"
    assert main(["eval", str(written), "--data", str(data), "--output", str(tmp_path / "eval")]) == 0
    of_run = json.loads((runs[name] / "summary.json").read_text())
    of_file = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert of_file["box_AP"] == pytest.approx(of_run["box_AP"], abs=0.05)


def test_a_batch_of_any_size(runs: dict[str, Path], tmp_path: Path) -> None:
    export(runs["mask_rcnn"], "onnx", "--batch", "2", "--output", str(tmp_path / "any"))
    about = load_exported(tmp_path / "any.onnx").metadata
    assert about["batch"] == 2 and about["static"] is None


def test_a_model_of_the_zoo_is_exported_without_a_run(tmp_path: Path) -> None:
    name = "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"
    cfg = get_config(name)
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", "cpu"
    torch.manual_seed(0)
    model: Any = build_model(cfg)
    with torch.no_grad():
        model.backbone.bottom_up.stem.conv1.weight.mul_(0.01)  # values stay in range without trained norms
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    discs = write_discs(tmp_path / "discs", 2)
    words = ["--to", "torchscript", "--static", "160", "200", "--output", str(tmp_path / "zoo")]
    weights = ["--weights", str(tmp_path / "model.pth")]
    assert main(["export", "faster_rcnn_R_50_FPN_1x", str(discs.parent / "images"), *words, *weights]) == 0
    assert len(load_exported(tmp_path / "zoo.ts").metadata["classes"]) == 80
