"""The modern detectors in the trainer: losses fall, averages, resuming, several processes, other classes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from detectron2.checkpoint import DetectionCheckpointer, read_checkpoint_file
from detectron2.engine import launch
from detectron2.utils.events import EventStorage

sys.path.insert(0, str(Path(__file__).parent))
from _modern_runs import ARCHITECTURES, DINO, register_discs, run_of, tiny_detr, train


def same(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same bits."""
    first, second = (read_checkpoint_file(path)["model"] for path in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_losses_fall_and_a_resumed_training_is_the_unbroken_one(name: str, tmp_path: Path) -> None:
    if name == "timm":
        pytest.importorskip("timm")
    register_discs(tmp_path / "discs")
    train(run_of(name, tmp_path / "whole"))
    rows = [json.loads(line) for line in (tmp_path / "whole/metrics.json").read_text().splitlines()]
    losses = [row["total_loss"] for row in rows if "total_loss" in row]
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5]), losses
    weights = read_checkpoint_file(tmp_path / "whole/model_final.pth")["model"]
    average = read_checkpoint_file(tmp_path / "whole/model_ema.pth")["model"]
    assert weights.keys() == average.keys()
    assert all(value.isfinite().all() for value in (*weights.values(), *average.values()))
    assert any(not torch.equal(weights[k], average[k]) for k in weights)

    broken = tmp_path / "broken"
    broken.mkdir()
    shutil.copy(tmp_path / "whole/model_0000014.pth", broken)
    (broken / "last_checkpoint").write_text("model_0000014.pth")
    train(run_of(name, broken), resume=True)
    for file in ("model_final.pth", "model_ema.pth"):
        assert same(tmp_path / "whole" / file, broken / file), file


@pytest.mark.slow
def test_mask2former_learns_masks_by_heart(tmp_path: Path) -> None:
    register_discs(tmp_path / "discs")
    run = run_of("Mask2Former", tmp_path / "out", steps=200, log_period=50, checkpoint_period=200)
    trainer = train(run)
    found = trainer.test(run.cfg, trainer.model)
    assert found["segm"]["AP50"] > 60


def _sharded(name: str, folder: str) -> None:
    torch.set_num_threads(1)
    register_discs(Path(folder) / "discs")
    train(run_of(name, Path(folder) / "out", steps=3, fsdp=True, checkpoint_period=3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_two_processes_share_the_model(name: str, tmp_path: Path) -> None:
    if name == "timm":
        pytest.importorskip("timm")
    register_discs(tmp_path / "discs")
    launch(_sharded, 2, dist_url="auto", args=(name, str(tmp_path)))
    model = run_of(name, tmp_path / "alone").model()
    saver = DetectionCheckpointer(model)
    saver.load(str(tmp_path / "out/model_final.pth"))
    assert saver.last_report is not None
    assert saver.last_report.complete
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("objects", [2, 0])
def test_every_parameter_of_a_model_with_a_timm_backbone_learns(objects: int) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "modeling"))
    from _models import example

    pytest.importorskip("timm")
    torch.manual_seed(0)
    model = run_of("timm", Path()).model().train()
    with EventStorage():
        losses = model([example("mask_rcnn", 64, 80, objects), example("mask_rcnn", 80, 64, 0, seed=3)])
    sum(losses.values()).backward()
    learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert [n for n, p in learning.items() if p.grad is None] == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning.values())


def _loaded(cfg: Any, released: Path) -> tuple[Any, Any]:
    from detectron2.config import instantiate

    model = instantiate(cfg.model)
    saver = DetectionCheckpointer(model)
    saver.load(str(released))
    return model, saver.last_report


def test_own_classes_and_another_number_of_queries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from detectron2.config import instantiate

    old = instantiate(tiny_detr(DINO).model)
    DetectionCheckpointer(old, str(tmp_path)).save("released")
    cfg = tiny_detr(DINO)
    cfg.model.num_classes = 3
    cfg.model.num_queries = 11
    model, report = _loaded(cfg, tmp_path / "released.pth")
    differ = {name for name, _, _ in report.mismatched}
    assert "transformer.tgt_embed.weight" in differ
    assert "label_enc.weight" in differ
    assert "class_embed.0.weight" in differ
    assert all(("class_embed" in n or "label_enc" in n or "tgt_embed" in n) for n in differ), differ
    assert not report.missing
    assert not report.unexpected
    assert "class_embed.0.weight" in caplog.text
    kept = "transformer.encoder.layers.0.norms.0.weight"
    assert torch.equal(model.state_dict()[kept], old.state_dict()[kept])
    assert model.class_embed[0].bias.shape == (3,)
