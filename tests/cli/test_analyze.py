"""`detectron2 analyze` on a YAML config, a Python config and a run."""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

from detectron2.cli import main
from detectron2.engine.run_config import load_run_config
from detectron2.engine.run_folder import DataCard, RunCard


def analyze(*words: object, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["analyze", *map(str, words), "--device", "cpu", "--rounds", "1"]) == 0
    return capsys.readouterr().out


def built(config: Path) -> torch.nn.Module:
    run = load_run_config(config)
    run.put(device="cpu")
    return run.model()


def test_a_yaml_config(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = analyze(tiny_config, capsys=capsys)
    assert "64 x 85 pixels" in out  # 480 x 640 resized as for testing
    assert "objects found" in out and "mask_head" in out and "see analysis/analysis.svg" in out
    report = json.loads(Path("analysis/analysis.json").read_text())
    modules = {m["name"]: m for m in report["modules"]}
    whole = modules["(whole model)"]
    model = built(tiny_config)
    assert whole["parameters"] == sum(p.numel() for p in model.parameters())
    parts = [modules[name] for name in ("backbone", "proposal_generator", "roi_heads")]
    assert whole["parameters"] == sum(part["parameters"] for part in parts)
    for figure in ("flops", "activations"):  # the model itself enlarges masks
        assert whole[figure] >= sum(part[figure] for part in parts) > 0
    assert all(0 < part["memory"] <= whole["memory"] and part["calls"] == 1 for part in parts)
    picture = ElementTree.parse("analysis/analysis.svg")
    assert sum(node.tag.endswith("rect") for node in picture.iter()) >= 5 * len(modules)


def test_json_image_size_and_overrides(
    tiny_config: Path, discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = discs.parent / "images" / "1.jpg"
    words = [
        tiny_config,
        "--image",
        image,
        "--depth",
        "1",
        "--json",
        "--output",
        tmp_path / "o",
        "MODEL.MASK_ON",
        "False",
    ]
    report = json.loads(analyze(*words, capsys=capsys))
    assert report["input_size"] == [64, 80] and report["input"] == str(image)
    assert [m["name"] for m in report["modules"]] == [
        "(whole model)",
        "backbone",
        "proposal_generator",
        "roi_heads",
    ]
    assert json.loads((tmp_path / "o/analysis.json").read_text()) == report
    report = json.loads(analyze(*words[:3], "--json", "--input-size", 96, 128, capsys=capsys))
    assert report["input_size"] == [96, 128]


def test_a_python_config_of_the_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["COCO-Detection/retinanet_R_50_FPN_1x.py", "--input-size", 64, 64, "--json", "--depth", 0]
    report = json.loads(analyze(*words, capsys=capsys))
    assert report["modules"][0]["parameters"] > 30e6
    assert report["weights"] == "random"
    assert not list(tmp_path.iterdir())


def test_a_run(tiny_config: Path, discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(tiny_config, folder / "config.yaml")
    data = DataCard(json=str(discs), images=str(discs.parent / "images"), num_images=6)
    RunCard("tiny", ["red", "blue"], [3, 7], train=data, val=data).save(folder)
    torch.save({"model": built(tiny_config).state_dict()}, folder / "model_final.pth")
    out = analyze(folder, capsys=capsys)
    assert f"see {folder / 'analysis' / 'analysis.svg'}" in out
    assert json.loads((folder / "analysis/analysis.json").read_text())["weights"].endswith("model_final.pth")


def test_refusals(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, text in (
        ([tmp_path], "no run.json"),
        ([tiny_config, "--image", tmp_path / "no.jpg"], "cannot be read"),
        ([tiny_config, "--input-size", "0", "9"], "positive"),
        (["no_such_model"], "no_such_model"),
    ):
        assert main(["analyze", *map(str, words), "--device", "cpu"]) == 2
        assert text in capsys.readouterr().err
