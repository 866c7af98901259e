"""`detectron2 train` on label maps: labels and models that suit each other, evaluation, pictures and report."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from detectron2.cli import main
from detectron2.cli.errors import UserError
from detectron2.cli.run.model_fit import default_model
from detectron2.cli.run.pixels import check_pixels, fit_pixels, pixel_task
from detectron2.data.formats import DataPlan, label_facts
from detectron2.data.formats.base import Dataset
from detectron2.data.toys import STUFF, TOYS, write_toys
from detectron2.engine.run_config import RunConfig, load_run_config
from detectron2.model_zoo.listing import find_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "projects"))

PANOPTIC_FPN, MASK_RCNN = "panoptic_fpn_R_50_3x", "mask_rcnn_R_50_FPN_3x"
NUMBERS = {"thing_dataset_id_to_contiguous_id": {3: 0, 4: 1}, "stuff_dataset_id_to_contiguous_id": {9: 2}}
PLANS = {
    "panoptic": Dataset(
        [{"pan_seg_file_name": "a.png", "segments_info": []}], {"thing_classes": ["x", "y", "z"], **NUMBERS}
    ),
    "semantic": Dataset([{"sem_seg_file_name": "a.png"}], {"stuff_classes": ["x", "y", "z"]}),
    "boxes": Dataset([{"annotations": [{"bbox": [0, 0, 1, 1]}]}], {"thing_classes": ["x"]}),
}


def plan(kind: str) -> DataPlan:
    return DataPlan({"train": PLANS[kind], "val": PLANS[kind]}, {})


def run_of(name: str) -> RunConfig:
    return load_run_config(find_model(name)[0])


def test_models_that_suit_label_maps() -> None:
    for kind, name in (("panoptic", PANOPTIC_FPN), ("semantic", "semantic_R_50_FPN_1x")):
        assert default_model(label_facts(PLANS[kind].records)) == name
        run = run_of(name)
        task = pixel_task(run, plan(kind), name)
        assert task is not None
        assert task.kind == kind
        assert fit_pixels(run, task)
        assert run.get("MODEL.SEM_SEG_HEAD.NUM_CLASSES") == (2 if kind == "panoptic" else 3)
    run = run_of(PANOPTIC_FPN)
    task = pixel_task(run, plan("panoptic"), PANOPTIC_FPN)
    assert task is not None
    assert (task.ids, task.things, task.separate) == ([3, 4, 9], 2, True)
    fit_pixels(run, task)
    assert run.get("MODEL.ROI_HEADS.NUM_CLASSES") == 2
    assert run.options.best_metric == "panoptic_seg/PQ"
    assert pixel_task(run, plan("boxes"), PANOPTIC_FPN) is None  # fit_labels says what is wrong


def test_queries_for_label_maps() -> None:
    name = "Mask2Former/configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
    run = run_of(name)
    task = pixel_task(run, plan("panoptic"), name)
    assert task is not None
    assert not task.separate
    run.set("MODEL.MASK_FORMER.TEST.INSTANCE_ON", False)
    fit_pixels(run, task)
    assert run.get("MODEL.SEM_SEG_HEAD.NUM_CLASSES") == 3
    assert run.get("MODEL.MASK_FORMER.TEST.INSTANCE_ON")
    name = "MaskDINO/configs/ade20k/semantic-segmentation/maskdino_R50_bs16_160k_steplr.yaml"
    run = run_of(name)
    task = pixel_task(run, plan("panoptic"), name)  # panoptic labels serve semantic models
    assert task is not None
    assert (task.kind, task.things) == ("semantic", 0)
    fit_pixels(run, task)
    assert not run.get("MODEL.MaskDINO.TEST.PANOPTIC_ON")


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("panoptic", MASK_RCNN, "needs labels of objects"),
        ("semantic", MASK_RCNN, "needs labels of objects"),
        ("semantic", PANOPTIC_FPN, "needs panoptic label maps"),
        ("panoptic", "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py", "Python configs"),
    ],
)
def test_label_maps_that_do_not_suit_a_model(kind: str, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        pixel_task(run_of(name), plan(kind), name)


def test_evaluation_needs_label_maps_too() -> None:
    task = pixel_task(run_of(PANOPTIC_FPN), plan("panoptic"), PANOPTIC_FPN)
    assert task is not None
    check_pixels(task, plan("panoptic"), PANOPTIC_FPN)
    for kind in ("semantic", "boxes"):
        with pytest.raises(UserError, match="panoptic"):
            check_pixels(task, plan(kind), PANOPTIC_FPN)


def configs(kind: str, path: Path) -> Path:
    import _mask2former_models as mask2former
    import _maskdino_models as maskdino
    from _modern_runs import STEADY

    name = {
        "mask2former": mask2former.PANOPTIC,
        "maskdino": maskdino.PANOPTIC,
        "semantic": mask2former.SEMANTIC,
    }[kind]
    crops = ("INPUT.MIN_SIZE_TRAIN", (96,), "INPUT.CROP.SIZE", (64, 64), "INPUT.SIZE_DIVISIBILITY", 64)
    project = maskdino if kind == "maskdino" else mask2former
    path.write_text(project.config(name, *STEADY, *crops).dump())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mask2former", "maskdino", "semantic"])
def test_train_evaluate_predict(kind: str, tmp_path: Path) -> None:
    toys, out = tmp_path / "toys", tmp_path / "run"
    write_toys(str(toys), {"train": 4, "val": 2})
    data = ["--train", str(toys / "train_panoptic.json"), "--val", str(toys / "val_panoptic.json")]
    model = ["--model", str(configs(kind, tmp_path / "tiny.yaml")), "--weights", "none"]
    short = ["--epochs", "1", "--batch-size", "2", "--workers", "0", "--device", "cpu"]
    assert main(["train", *data, *model, *short, "--output", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    figures = {"mIoU"} if kind == "semantic" else {"PQ", "mIoU", "mask_AP"}
    assert figures <= set(summary)
    page = (out / "report.html").read_text()
    assert "mIoU" in page
    assert "IoU" in page and all(name in page for name in (*TOYS, *STUFF))
    card = (out / "model_card.md").read_text()
    assert all(f"| {name} | {summary[name]:.3f} |" in card for name in {"PQ", "mIoU"} & figures)
    assert len(list((out / "pictures").glob("examples_*.jpg"))) == 2
    assert main(["eval", str(out), "--data", str(toys / "val_panoptic.json"), "--device", "cpu"]) == 0
    again = json.loads((out / "eval/summary.json").read_text())
    assert {k: again[k] for k in figures} == {k: summary[k] for k in figures}
    augmented = ["eval", str(out), "--tta", "64,96", "--output", str(tmp_path / "tta"), "--device", "cpu"]
    assert main(augmented) == (0 if kind == "semantic" else 2)
    words = ["predict", str(out), "--output", str(tmp_path / "shown"), "--device", "cpu"]
    assert main(words) == 0
    found = json.loads((tmp_path / "shown/predictions.json").read_text())
    assert len(found) == 2
    assert all("regions" in r for r in found)
