"""``detectron2 train --fast``: what it switches on for each device, and a training with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detectron2.cli import main
from detectron2.cli.run.fast import fit_fast
from detectron2.engine.run_config import RunConfig, load_run_config
from detectron2.model_zoo import get_config_file

from .conftest import TINY


def fitted(path: str | Path, device: str, *changes: str) -> tuple[RunConfig, str]:
    config = load_run_config(str(path))
    config.put(device=device)
    (line,) = fit_fast(config, changes)
    config.override(changes)
    return config, line


def test_cuda_gets_everything(tiny_config: Path) -> None:
    config, line = fitted(tiny_config, "cuda", "INPUT.MAX_SIZE_TRAIN", "100")
    options = config.options
    assert (
        options.compile and options.compile_parts == [""] and options.amp and options.amp_dtype == "bfloat16"
    )
    assert options.channels_last and options.cudnn_benchmark and not options.broadcast_buffers
    assert config.get("SOLVER.FUSED") and config.get("MODEL.FIXED_SHAPES")
    assert (
        config.get("INPUT.FIXED_SIZE") == [[64, 128], [128, 64]]
        and config.get("INPUT.MASK_FORMAT") == "bitmask"
    )
    assert "fixed shapes" in line and "compiled training steps" in line and "No fixed shapes" not in line


def test_a_cpu_gets_what_pays_there(tiny_config: Path) -> None:
    config, line = fitted(tiny_config, "cpu")
    options = config.options
    assert config.get("SOLVER.FUSED") and options.channels_last
    assert not (options.compile or options.amp or config.get("MODEL.FIXED_SHAPES"))
    assert "pay only on accelerators" in line


def test_models_without_fixed_shapes_get_the_rest(tiny_config: Path) -> None:
    config, line = fitted(tiny_config, "cuda", "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", "True")
    assert not config.get("MODEL.FIXED_SHAPES") and config.options.compile_parts == ["backbone"]
    assert "No fixed shapes: " in line and "train_on_pred_boxes" in line


@pytest.mark.slow
def test_python_configs_and_other_architectures() -> None:
    config, line = fitted(get_config_file("COCO-Detection/fcos_R_50_FPN_1x.py"), "cuda")
    assert config.get("optimizer.fused") and "No fixed shapes" in line
    config, line = fitted(get_config_file("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py"), "cuda")
    assert config.get("model.fixed_shapes") and "No fixed shapes" not in line
    assert config.get("dataloader.train.mapper.instance_mask_format") == "bitmask"
    config, line = fitted(get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml"), "cuda")
    assert not config.get("MODEL.FIXED_SHAPES") and "RetinaNet has no form with fixed shapes" in line


@pytest.mark.slow
def test_a_training_in_the_fast_form(discs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = tmp_path / "tiny.yaml", tmp_path / "run"
    config.write_text(TINY)
    words = [
        "--train",
        str(discs),
        "--val",
        str(discs),
        "--model",
        str(config),
        "--weights",
        "none",
        "--fast",
    ]
    words += ["--epochs", "2", "--batch-size", "3", "--workers", "0", "--device", "cpu", "--output", str(out)]
    changes = ["MODEL.FIXED_SHAPES", "True", "INPUT.FIXED_SIZE", "[[96, 96]]"]
    assert main(["train", *words, *changes]) == 0
    assert "--fast: fused optimizer" in "".join(capsys.readouterr())
    summary = json.loads((out / "summary.json").read_text())
    assert summary["iterations"] == 4 and {"box_AP50", "mask_AP50"} <= set(summary)
    logged = set().union(*map(json.loads, (out / "metrics.json").read_text().splitlines()))
    assert {"loss_mask", "rpn/num_pos_anchors", "fast_rcnn/cls_accuracy", "mask_rcnn/accuracy"} <= logged
    assert main(["eval", str(out), "--device", "cpu"]) == 0
