"""The built-in pictures, what the command prints and shows, and the whole path."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.cli import main
from detectron2.cli.commands.quickstart import ASSETS, copy_fruit
from detectron2.cli.run.progress import calm_console
from detectron2.cli.run.showcase import GAP, write_clip, write_sheet
from detectron2.data import Metadata
from detectron2.structures.rle import decode
from detectron2.utils.logger import setup_logger

MOST_BYTES = 3_000_000


def test_pictures_are_few_and_colourful() -> None:
    files = [p for p in ASSETS.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= MOST_BYTES
    for part in ("train_001", "val_001"):
        with Image.open(ASSETS / "fruit" / "images" / f"{part}.jpg") as picture:
            pixels = np.asarray(picture).astype(int)
        assert np.ptp(pixels, axis=2).mean() > 5  # grey pictures have 0


def test_labels_fit_and_parts_share_no_picture(tmp_path: Path) -> None:
    parts = copy_fruit(tmp_path)
    names: set[str] = set()
    for path in parts.values():
        content = json.loads(path.read_text())
        assert len(content["categories"]) == 6
        covered = {i["id"]: np.zeros((i["height"], i["width"]), int) for i in content["images"]}
        for image in content["images"]:
            with Image.open(tmp_path / "images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
            assert image["file_name"] not in names
            names.add(image["file_name"])
        for label in content["annotations"]:
            mask = decode(label["segmentation"]).astype(bool)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x, y, width, height = label["bbox"]
            assert (x, y) == (columns[0], rows[0])
            assert (x + width, y + height) == (columns[-1] + 1, rows[-1] + 1)
            assert label["area"] == mask.sum()
            covered[label["image_id"]] += mask
        assert all(c.max() == 1 for c in covered.values())  # only what can be seen is labelled
        classes = {label["category_id"] for label in content["annotations"]}
        assert classes == {c["id"] for c in content["categories"]}
    assert len(list((tmp_path / "clip").glob("*.jpg"))) == 24


class Finds:
    """A predictor that finds nothing, and knows two classes."""

    input_format = "BGR"
    metadata = Metadata(thing_classes=["apple", "pear"])

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, image: np.ndarray) -> dict[str, object]:
        self.seen.append(image)
        return {}


@pytest.mark.parametrize("name", ["train.json", "train.csv", "images/mine.jpg"])
def test_data_of_somebody_else_are_not_overwritten(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "data" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert main(["quickstart", "--output", str(tmp_path)]) == 2
    assert str(mine) in capsys.readouterr().err
    assert mine.read_text() == "mine" and not (tmp_path / "data" / "clip").exists()


def test_a_copy_may_be_made_again(tmp_path: Path) -> None:
    assert copy_fruit(tmp_path) == copy_fruit(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Seven pictures of one colour each."""
    files = []
    for index in range(7):
        files.append(tmp_path / f"{index}.png")
        Image.new("RGB", (64, 48), (200, 30 * index, 0)).save(files[-1])
    return files


def test_sheet_shows_whole_rows(pictures: list[Path], tmp_path: Path) -> None:
    model = Finds()
    write_sheet(model, pictures, tmp_path / "sheet.jpg")  # type: ignore[arg-type]
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (3 * 80 + 2 * GAP, 2 * 60 + GAP)
        corner = np.asarray(sheet)[-10, -10]
    assert len(model.seen) == 6
    assert model.seen[0][0, 0].tolist() == [0, 0, 200]  # BGR, as the model wants it
    assert abs(corner.astype(int) - [200, 150, 0]).max() < 6


def test_clip_runs_forwards_and_backwards(pictures: list[Path], tmp_path: Path) -> None:
    write_clip(Finds(), pictures[:4], tmp_path / "clip.webp")  # type: ignore[arg-type]
    with Image.open(tmp_path / "clip.webp") as clip:
        assert clip.n_frames == 6
        assert clip.size == (96, 72)
        greens = []
        for index in range(6):
            clip.seek(index)
            greens.append(round(np.asarray(clip.convert("RGB"))[..., 1].mean() / 30))
    assert greens == [0, 1, 2, 3, 2, 1]


def test_calm_console_hides_all_but_warnings_and_logs_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = setup_logger(str(tmp_path))
    with calm_console():
        logger.info("hidden")
        logger.warning("shown")
    logger.info("again")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["shown", "again"]
    assert "hidden" in (tmp_path / "log.txt").read_text()


WORDS = ["SOLVER.MAX_ITER", "6", "SOLVER.STEPS", "(4,)", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "0",
         "INPUT.MIN_SIZE_TRAIN", "[96]", "SOLVER.IMS_PER_BATCH", "2"]  # fmt: skip


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(["quickstart", "--output", str(whole), *WORDS]) == 0
    command = [sys.executable, "-m", "detectron2", "quickstart", "--output", str(broken)]
    process = subprocess.Popen([*command, *WORDS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = time.monotonic()
    while not list(broken.glob("model_000000[13].pth")) and time.monotonic() - started < 300:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (broken / "summary.json").exists(), "the run ended before it was killed"
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    a = torch.load(whole / "model_final.pth", weights_only=True)["model"]
    b = torch.load(broken / "model_final.pth", weights_only=True)["model"]
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    first, second = (json.loads((d / "summary.json").read_text()) for d in (whole, broken))
    assert first["box_AP50"] == second["box_AP50"]


@pytest.mark.slow
def test_quickstart_reaches_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "--output", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 35
    assert lines[-5].startswith("held-out box AP50")
    assert [line.split()[1] for line in lines[-3:]] == ["predict", "train", "export"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["box_AP50"] >= 0.80
    assert summary["mask_AP50"] >= 0.80
    for name in ("report.html", "metrics.json", "model_final.pth", "pictures/examples_00.jpg", "result.jpg"):
        assert (tmp_path / name).is_file(), name
    with Image.open(tmp_path / "result.webp") as clip:
        assert clip.n_frames == 46
