"""Programs of `tools/` as processes, on drawn pictures that lie where built-in data sets are looked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detectron2.data import MetadataCatalog

ROOT = Path(__file__).parents[2]
COUNT = 5

TINY_YAML = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  DEVICE: cpu
  MASK_ON: true
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {STEM_OUT_CHANNELS: 16, RES2_OUT_CHANNELS: 16, WIDTH_PER_GROUP: 8, NORM: BN, OUT_FEATURES: [res2, res3]}
  FPN: {IN_FEATURES: [res2, res3], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[16], [32], [64]]}
  RPN: {IN_FEATURES: [p2, p3, p4], PRE_NMS_TOPK_TRAIN: 50, POST_NMS_TOPK_TRAIN: 30, POST_NMS_TOPK_TEST: 20}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3], BATCH_SIZE_PER_IMAGE: 16, SCORE_THRESH_TEST: 0.0}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 1, CONV_DIM: 8, POOLER_RESOLUTION: 14}
DATASETS: {TRAIN: [coco_2017_val_100], TEST: [coco_2017_val_100]}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}
SOLVER: {IMS_PER_BATCH: 2, MAX_ITER: 4, STEPS: [], CHECKPOINT_PERIOD: 2, BASE_LR: 0.001}
TEST: {EVAL_PERIOD: 2, DETECTIONS_PER_IMAGE: 10}
WRITERS: {TENSORBOARD: false}
"""

TINY_PY = """
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.param_scheduler import ConstantParamScheduler

model = model_zoo.get_config("common/models/retinanet.py").model
stages = model.backbone.bottom_up.stages
stages.depth = 18
del stages["stride_in_1x1"]
stages.norm = model.backbone.bottom_up.stem.norm = "GN"  # frozen statistics of nothing would blow up
model.backbone.out_channels = 32
model.backbone.top_block.in_channels = 512
model.head.input_shape = [ShapeSpec(channels=32)] * 5
model.head.conv_dims = [32]
model.test_score_thresh = 0.0

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
for part in (dataloader.train, dataloader.test):
    part.dataset.names = "coco_2017_val_100"
    part.num_workers = 0
    part.mapper.augmentations[0].short_edge_length = 64
dataloader.train.total_batch_size = 2
optimizer = model_zoo.get_config("common/optim.py").SGD
optimizer.lr = 0.001
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(ConstantParamScheduler)(value=1.0), warmup_length=0.5, warmup_factor=0.1
)
train = model_zoo.get_config("common/train.py").train
train.update(device="cpu", max_iter=4, eval_period=2, init_checkpoint="", log_period=2)
train.checkpointer.period = 2
"""


def write_coco(root: Path) -> None:
    """`COUNT` pictures of discs as `coco_2017_val_100`: categories 3 (car) and 7 (train) of COCO's 80."""
    rng = np.random.default_rng(0)
    (root / "coco/annotations").mkdir(parents=True)
    (root / "coco/val2017").mkdir(parents=True)
    images, annotations = [], []
    for i in range(1, COUNT + 1):
        picture = Image.new("RGB", (80, 64), "white")
        for category, colour in ((3, "red"), (7, "blue"))[: 1 + i % 2]:
            r, x, y = (int(v) for v in (rng.integers(8, 14), rng.integers(16, 64), rng.integers(16, 48)))
            ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill=colour)
            angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
            polygon = np.stack([x + r * np.cos(angles), y + r * np.sin(angles)], 1).ravel().tolist()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": category, "iscrowd": 0,
                 "bbox": [x - r, y - r, 2 * r, 2 * r], "area": float(np.pi * r * r), "segmentation": [polygon]}
            )  # fmt: skip
        name = f"{i:012d}.jpg"
        picture.save(root / "coco/val2017" / name)
        images.append({"id": i, "file_name": name, "width": 80, "height": 64})
    meta = MetadataCatalog.get("coco_2017_val_100")
    ids = meta.thing_dataset_id_to_contiguous_id
    categories = [{"id": k, "name": meta.thing_classes[v]} for k, v in ids.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco/annotations/instances_val2017_100.json").write_text(json.dumps(content))


@pytest.fixture(scope="session")
def datasets_root(tmp_path_factory) -> Path:
    """A folder for DETECTRON2_DATASETS."""
    root = tmp_path_factory.mktemp("datasets")
    write_coco(root)
    return root


@pytest.fixture
def tiny_yaml(tmp_path: Path) -> Path:
    """A yaml config that a test can train."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_YAML)
    return path


@pytest.fixture
def tiny_py(tmp_path: Path) -> Path:
    """A Python config that a test can train."""
    path = tmp_path / "tiny.py"
    path.write_text(TINY_PY)
    return path


@pytest.fixture
def run_tool(datasets_root: Path, tmp_path: Path):
    """Runs a program of this repository and returns its output; fails when it fails."""

    def run(program: str, *args: object, expect: int = 0) -> str:
        environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets_root), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(ROOT / program), *map(str, args)], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == expect, done.stdout[-6000:]
        return done.stdout

    return run
