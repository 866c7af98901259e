"""The modern models on the command line: train with averages, resume, evaluate, predict, export, augment, fine-tune."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from detectron2.checkpoint import read_checkpoint_file
from detectron2.cli import main
from detectron2.config.training_options import OPTIONS
from detectron2.data.toys import TOYS, write_toys
from detectron2.engine.run_config import RunConfig, load_run_config, run_config

sys.path.insert(0, str(Path(__file__).parent))
from _modern_runs import ARCHITECTURES, write_discs

CPU = ["--device", "cpu"]
SHORT = ["--epochs", "1", "--batch-size", "2", "--workers", "0", *CPU]
# The key of the number of queries, and parts of names: nothing else begins anew.
FAMILIES = {
    "DINO": ("model.num_queries", ("class_embed", "label_enc", "tgt_embed")),
    "Mask2Former": (
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES",
        ("class_embed", "query_feat", "query_embed", "empty_weight"),
    ),
    # Its queries begin at proposals: there are none to learn.
    "MaskDINO": ("MODEL.MaskDINO.NUM_OBJECT_QUERIES", ("class_embed", "label_enc", "empty_weight")),
    "EVA-02": ("", ("cls_score", "bbox_pred", "mask_head.predictor")),
}


def tiny(name: str) -> RunConfig:
    """The small config of a family, with a moving average of the weights."""
    run = run_config(ARCHITECTURES[name][0]())
    run.put(ema=True, ema_decay=0.5, log_period=1, amp=False, report_period=0)
    return run


def steps(run: RunConfig, number: int) -> list[str]:
    return [run.path_of(OPTIONS["max_iter"]), str(number)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize("name", FAMILIES)
def test_everything(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_toys(tmp_path / "toys", {"train": 4, "val": 2}, size=(96, 128))
    labels, other = (str(tmp_path / "toys" / f"{part}.json") for part in ("train", "val"))
    assert main(["data", "check", labels]) == 0
    run, out = tiny(name), tmp_path / "run"
    run.save(str(tmp_path / "tiny.yaml"))
    model = ["--model", str(tmp_path / "tiny.yaml")]
    words = ["train", "--train", labels, "--val", other, *model, "--weights", "none", *SHORT]
    assert main([*words, "--output", str(out)]) == 0
    card = json.loads((out / "run.json").read_text())
    assert card["classes"] == list(TOYS)
    assert "Training began with random weights." in (out / "model_card.md").read_text()
    assert (out / "report.html").is_file()
    assert {file.name for file in out.glob("model_*.pth")} >= {"model_final.pth", "model_ema.pth"}

    assert main(["train", "--output", str(out), "--resume", *CPU, *steps(run, 4)]) == 0
    assert read_checkpoint_file(str(out / "model_final.pth"))["iteration"] == 3
    summary = json.loads((out / "summary.json").read_text())
    figures = {key for key in summary if "AP" in key}
    assert {"box_AP"} <= figures if name != "Mask2Former" else {"mask_AP"} <= figures

    assert main(["eval", str(out), *CPU]) == 0
    again = json.loads((out / "eval/summary.json").read_text())
    assert {key: again[key] for key in figures} == {key: summary[key] for key in figures}

    shown = tmp_path / "shown"
    assert main(["predict", str(out), "--threshold", "0", "--output", str(shown), *CPU]) == 0
    found = json.loads((shown / "predictions.json").read_text())
    assert len(found) == 2 and all(record["objects"] for record in found)

    capsys.readouterr()
    augmented = main(["eval", str(out), "--tta", "48,64", "--output", str(tmp_path / "tta"), *CPU])
    if name == "EVA-02":
        assert augmented == 0
    else:
        assert augmented == 2
        assert "test-time augmentation is not defined for " in capsys.readouterr().err

    assert main(["export", str(out), "--to", "onnx", "--output", str(tmp_path / "model.onnx")]) == 0
    assert (tmp_path / "model.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_own_classes_and_another_number_of_queries(name: str, tmp_path: Path) -> None:
    write_toys(tmp_path / "toys", {"train": 2, "val": 1}, size=(96, 128))
    labels = str(tmp_path / "toys" / "train.json")
    tiny(name).save(str(tmp_path / "tiny.yaml"))
    common = ["--model", str(tmp_path / "tiny.yaml"), *SHORT]
    first, second = tmp_path / "first", tmp_path / "second"
    words = ["train", "--train", labels, "--val", labels, *common, "--weights", "none"]
    assert main([*words, "--output", str(first)]) == 0
    discs = str(write_discs(tmp_path / "discs", 2))
    queries, parts = FAMILIES[name]
    weights = ["--weights", str(first / "model_final.pth")]
    words = ["train", "--train", discs, "--val", discs, *common, *weights, "--output", str(second)]
    assert main([*words, *([queries, "5"] if queries else [])]) == 0
    before, after = (
        read_checkpoint_file(str(folder / "model_final.pth"))["model"] for folder in (first, second)
    )
    changed = {key for key in after if after[key].shape != before[key].shape}
    assert changed
    assert all(any(part in key for part in parts) for key in changed), changed
    log = (second / "log.txt").read_text()
    assert all(key in log for key in changed)
    assert not queries or load_run_config(second / "config.yaml").get(queries) == 5
    learnt = [key for key in changed if "query" in key or "tgt_embed" in key]
    assert bool(learnt) == (name in ("DINO", "Mask2Former"))
    assert all(len(after[key]) == 5 for key in learnt)
