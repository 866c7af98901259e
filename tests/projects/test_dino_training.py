"""DINO and Deformable DETR in the trainer and on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from detectron2.cli import main
from detectron2.config import LazyConfig
from detectron2.engine.run_config import load_run_config, run_config

sys.path.insert(0, str(Path(__file__).parent))
from _modern_runs import CONFIGS, DEFORMABLE, DINO, tiny_detr, write_discs


@pytest.mark.slow
@pytest.mark.parametrize("path", [DINO, DEFORMABLE])
def test_train_eval_predict(path: str, tmp_path: Path) -> None:
    discs, config, out = write_discs(tmp_path / "discs"), tmp_path / "tiny.yaml", tmp_path / "run"
    LazyConfig.save(tiny_detr(path), str(config))
    words = ["--train", str(discs), "--val", str(discs), "--model", str(config), "--weights", "none"]
    length = ["--epochs", "1", "--batch-size", "2", "--workers", "0", "--device", "cpu"]
    assert main(["train", *words, *length, "--output", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["iterations"] == 3
    assert "box_AP50" in summary
    assert main(["eval", str(out), "--device", "cpu"]) == 0
    again = json.loads((out / "eval/summary.json").read_text())
    assert again["box_AP50"] == summary["box_AP50"]
    pictures = str(discs.parent / "images")
    words = ["--output", str(tmp_path / "shown"), "--threshold", "0", "--device", "cpu"]
    assert main(["predict", str(out), pictures, *words]) == 0
    found = json.loads((tmp_path / "shown/predictions.json").read_text())
    assert len(found) == 6
    assert all(len(r["objects"]) == 20 for r in found)


def test_configs_of_detrex_are_understood() -> None:
    run = run_config(LazyConfig.load(str(CONFIGS / DINO)))
    assert run.input_format == "RGB"
    assert [a.max_size for a in run.test_augmentation().augs] == [1333]
    assert not run.predicts_masks


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_are_clipped_together(enabled: bool, tmp_path: Path) -> None:
    cfg = tiny_detr(DINO)
    cfg.train.clip_grad.enabled = enabled
    LazyConfig.save(cfg, str(tmp_path / "x.yaml"))
    run = load_run_config(tmp_path / "x.yaml")
    model = torch.nn.Linear(3, 3, bias=False)
    optimizer = run.optimizer(model)
    model.weight.grad = torch.full((3, 3), 2.0)
    optimizer.step()
    norm = model.weight.grad.norm()
    torch.testing.assert_close(norm, torch.tensor(0.1 if enabled else 6.0))
