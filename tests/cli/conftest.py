"""Small real data for the command line: drawn discs, as COCO, in a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detectron2.cli import main

TINY = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  MASK_ON: true
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, NORM: BN, OUT_FEATURES: [res2, res3]}
  FPN: {IN_FEATURES: [res2, res3], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[16], [32], [64]]}
  RPN: {IN_FEATURES: [p2, p3, p4], PRE_NMS_TOPK_TRAIN: 50, POST_NMS_TOPK_TRAIN: 30, POST_NMS_TOPK_TEST: 20}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3], BATCH_SIZE_PER_IMAGE: 16}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 1, CONV_DIM: 8, POOLER_RESOLUTION: 14}
INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}
SOLVER: {IMS_PER_BATCH: 2, MAX_ITER: 4, STEPS: [], CHECKPOINT_PERIOD: 2, BASE_LR: 0.001}
TEST: {EVAL_PERIOD: 2}
"""


def write_discs(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """A COCO json with `count` 64x80 JPEGs of one or two discs of the classes "red" (3) and "blue" (7)."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(1, count + 1):
        picture = Image.new("RGB", (80, 64), "white")
        for category, colour in ((3, "red"), (7, "blue"))[: 1 + i % 2]:
            r, x, y = (int(v) for v in (rng.integers(8, 14), rng.integers(16, 64), rng.integers(16, 48)))
            ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill=colour)
            angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
            polygon = np.stack([x + r * np.cos(angles), y + r * np.sin(angles)], 1).ravel().tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": category,
                    "bbox": [x - r, y - r, 2 * r, 2 * r],
                    "area": float(np.pi * r * r),
                    "iscrowd": 0,
                    "segmentation": [polygon],
                }
            )
        picture.save(folder / "images" / f"{i}.jpg")
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 64})
    categories = [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]
    path = folder / "discs.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture(scope="session")
def discs_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps on ``discs/discs.json`` beside it, which finds objects everywhere. Shared: copy it to change it."""
    folder = tmp_path_factory.mktemp("shared")
    discs = write_discs(folder / "discs")
    config = folder / "tiny.yaml"
    config.write_text(TINY)
    data = ["--train", str(discs), "--val", str(discs), "--model", str(config), "--weights", "none"]
    length = ["--epochs", "2", "--batch-size", "3", "--workers", "0", "--device", "cpu"]
    find_all = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    assert main(["train", *data, *length, "--output", str(folder / "run"), *find_all]) == 0
    return folder / "run"


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    """The json of a small data set."""
    return write_discs(tmp_path / "discs")


@pytest.fixture
def tiny_config(tmp_path: Path) -> Path:
    """A config of a Mask R-CNN that a test can train."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path
