"""The embedded picture, and the whole path on it."""

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
from pycocotools import mask as mask_utils

from detectron2.cli import main
from detectron2.cli.commands.quickstart import BORDER, write_nuclei


def test_parts_share_no_pixel_and_labels_fit(tmp_path: Path) -> None:
    parts = write_nuclei(tmp_path)
    pixels = 0
    for part, path in parts.items():
        content = json.loads(path.read_text())
        sizes = {i["id"]: (i["height"], i["width"]) for i in content["images"]}
        for image in content["images"]:
            with Image.open(tmp_path / "images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
            assert image["width"] == (BORDER if part == "train" else 512 - BORDER)
        covered = {i: np.zeros(size, int) for i, size in sizes.items()}
        for a in content["annotations"]:
            rle = mask_utils.frPyObjects(a["segmentation"], *sizes[a["image_id"]])
            assert a["bbox"] == mask_utils.toBbox(rle).tolist()
            assert a["area"] == mask_utils.area(rle)
            covered[a["image_id"]] += mask_utils.decode(rle)
        assert all(c.max() == 1 for c in covered.values())  # instances do not overlap
        pixels += sum(h * w for h, w in sizes.values())
    assert pixels == 512 * 512


WORDS = ["SOLVER.MAX_ITER", "6", "SOLVER.STEPS", "(4,)", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "0",
         "INPUT.CROP.SIZE", "[96, 96]", "INPUT.MIN_SIZE_TRAIN", "[96]", "SOLVER.IMS_PER_BATCH", "2"]  # fmt: skip


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
def test_quickstart_reaches_its_figures(tmp_path: Path) -> None:
    assert main(["quickstart", "--output", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["box_AP50"] >= 0.70
    assert summary["mask_AP50"] >= 0.65
    for name in ("report.html", "metrics.json", "model_final.pth", "pictures/examples_00.jpg"):
        assert (tmp_path / name).is_file(), name
