"""Images with very many objects: the preset, and 2,000 objects trained, found and evaluated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectron2.cli import main
from detectron2.cli.run.dense import dense_settings, fit_dense
from detectron2.cli.run.tiles import most_detections
from detectron2.data.tiles import TileOptions
from detectron2.engine.run_config import load_run_config
from detectron2.model_zoo import get_config_file
from detectron2.utils.errors import UserError

from .conftest import TINY

PROGRAM = """
import sys
from detectron2.cli import main
status = main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(status)
"""
CELL, SIDE = 12, 8  # pixels of a cell, and of the square in it


def crowd(folder: Path, name: str, images: int, per_side: int, seed: int) -> Path:
    """A COCO json with images of a square in each cell of a grid, moved at random inside the cell."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    for i in range(1, images + 1):
        size = per_side * CELL
        picture = np.full((size, size, 3), 235, np.uint8)
        for row in range(per_side):
            for column in range(per_side):
                x, y = (int(c * CELL + rng.integers(CELL - SIDE + 1)) for c in (column, row))
                picture[y : y + SIDE, x : x + SIDE] = (30, 60, 160)
                outline = [x, y, x + SIDE, y, x + SIDE, y + SIDE, x, y + SIDE]
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "area": SIDE * SIDE,
                     "bbox": [x, y, SIDE, SIDE], "segmentation": [outline]}
                )  # fmt: skip
        file = f"{name}{i}.png"
        Image.fromarray(picture).save(folder / "images" / file)
        entries.append({"id": i, "file_name": file, "width": size, "height": size})
    path = folder / f"{name}.json"
    categories = [{"id": 1, "name": "square"}]
    path.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))
    return path


def config(folder: Path, size: int, masks: bool) -> Path:
    """A small model whose finest anchors fit the squares."""
    text = TINY.replace(
        "MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64", f"MIN_SIZE_TRAIN: [{size}], MIN_SIZE_TEST: {size}"
    )
    text = text.replace("SIZES: [[16], [32], [64]]", "SIZES: [[8], [16], [32]]").replace(
        "FC_DIM: 16", "FC_DIM: 64"
    )
    path = folder / "small.yaml"
    path.write_text(text.replace("MASK_ON: true", f"MASK_ON: {str(masks).lower()}"))
    return path


def test_settings_grow_with_the_objects() -> None:
    few, many = dense_settings(50), dense_settings(2000)
    assert few["TEST.DETECTIONS_PER_IMAGE"] == 300 and many["TEST.DETECTIONS_PER_IMAGE"] == 3000
    assert (
        few["MODEL.RPN.BATCH_SIZE_PER_IMAGE"] == 256 and many["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"] == 2000
    )
    assert dense_settings(10_000)["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"] == 2048
    assert many["MODEL.RPN.POST_NMS_TOPK_TRAIN"] == 4000


def test_preset_of_a_zoo_model() -> None:
    run = load_run_config(get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"))
    (note,) = fit_dense(run, [{"annotations": [{}] * 700}, {"annotations": []}], "mask_rcnn")
    assert run.get("MODEL.ANCHOR_GENERATOR.SIZES") == [[16], [32], [64], [128], [256]]
    assert run.get("TEST.DETECTIONS_PER_IMAGE") == 1050
    assert "700 objects" in note and "MODEL.ANCHOR_GENERATOR.SIZES" in note
    records = [{"height": 2000, "width": 3000}]
    assert most_detections(run, records, None) == 1050
    assert most_detections(run, records, TileOptions(1024, 0.2)) == 1050 * 3 * 4
    usual = load_run_config(get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"))
    assert most_detections(usual, records, None) is None


def test_a_python_config_is_refused() -> None:
    run = load_run_config(get_config_file("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py"))
    with pytest.raises(UserError, match="Python config"):
        fit_dense(run, [], "mask_rcnn")


def train(folder: Path, per_side: int, masks: bool, *more: str) -> list[str]:
    size = per_side * CELL
    data, val = crowd(folder, "train", 2, per_side, 0), crowd(folder, "val", 1, per_side, 1)
    words = ["train", "--train", str(data), "--val", str(val), "--images", str(folder / "images")]
    words += ["--model", str(config(folder, size, masks)), "--output", str(folder / "run"), "--device", "cpu"]
    return [*words, "--workers", "0", "--dense", *more]


def test_more_than_a_hundred_objects_count(tmp_path: Path) -> None:
    words = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "SOLVER.MAX_ITER", "1", "TEST.EVAL_PERIOD", "0"]
    assert main(train(tmp_path, 12, True, *words)) == 0
    card = json.loads((tmp_path / "run" / "run.json").read_text())
    assert card["max_detections"] == 300
    found = json.loads((tmp_path / "run" / "inference" / "coco_instances_results.json").read_text())
    assert 100 < len(found) <= 300


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the peak of memory where Linux keeps it"
)
def test_two_thousand_objects_are_trained_found_and_evaluated_in_bounded_memory(tmp_path: Path) -> None:
    """Tiles of the crowd teach a model quickly; then whole images of 2,025 objects are trained on, found and evaluated."""
    solver = [
        "SOLVER.BASE_LR",
        "0.02",
        "SOLVER.WARMUP_ITERS",
        "20",
        "TEST.EVAL_PERIOD",
        "0",
        "SOLVER.CHECKPOINT_PERIOD",
        "1000",
    ]
    (tmp_path / "tiles").mkdir()
    on_tiles = train(tmp_path / "tiles", 45, True, "--tile", "180", *solver, "SOLVER.MAX_ITER", "200")
    tiled, _ = run(on_tiles, tmp_path / "tiles")
    weights = str(tmp_path / "tiles" / "run" / "model_final.pth")
    solver[1] = "0.002"
    (tmp_path / "whole").mkdir()
    on_whole = train(tmp_path / "whole", 45, True, "--weights", weights, *solver, "SOLVER.MAX_ITER", "4")
    whole, peak = run(on_whole, tmp_path / "whole")
    for summary, folder in ((tiled, "tiles"), (whole, "whole")):
        found = json.loads(
            (tmp_path / folder / "run" / "inference" / "coco_instances_results.json").read_text()
        )
        assert 1900 < sum(f["score"] >= 0.5 for f in found) < 2200
        assert summary["box_AP50"] > 0.9 and summary["mask_AP50"] > 0.9
    assert peak < 2.5


def run(words: list[str], folder: Path) -> tuple[dict[str, float], float]:
    """Run a command; return the summary of the run, and the peak of its memory in GB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads((folder / "run" / "summary.json").read_text()), int(done.stdout.splitlines()[-1]) / 1e6
