"""A small Mask R-CNN with weights on disk, and small pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

TINY = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  DEVICE: cpu
  MASK_ON: true
  PIXEL_STD: [57.375, 57.12, 58.395]
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {STEM_OUT_CHANNELS: 16, RES2_OUT_CHANNELS: 16, WIDTH_PER_GROUP: 8, NORM: BN, OUT_FEATURES: [res2, res3]}
  FPN: {IN_FEATURES: [res2, res3], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[16], [32], [64]]}
  RPN: {IN_FEATURES: [p2, p3, p4], POST_NMS_TOPK_TEST: 20}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3], NUM_CLASSES: 2, SCORE_THRESH_TEST: 0.0}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 1, CONV_DIM: 8, POOLER_RESOLUTION: 14}
DATASETS: {TEST: [prediction_tests]}
INPUT: {MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 128}
TEST: {DETECTIONS_PER_IMAGE: 10}
"""


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file that names its weights."""
    folder = tmp_path_factory.mktemp("tiny")
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    torch.manual_seed(3)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "tiny.pth")
    path.write_text(TINY.replace("MODEL:\n", f"MODEL:\n  WEIGHTS: {folder / 'tiny.pth'}\n"))
    MetadataCatalog.get("prediction_tests").thing_classes = ["disc", "square"]
    return path


@pytest.fixture
def tiny_cfg(tiny_file: Path) -> CfgNode:
    """The same as an object."""
    cfg = get_cfg()
    cfg.merge_from_file(str(tiny_file))
    return cfg


def picture(seed: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth colours, (height, width, 3) RGB, that JPEG keeps well."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four JPEGs of two sizes, one of them in a folder inside."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for k, name in enumerate(("a.jpg", "b.jpg", "c.jpg", "more/d.jpg")):
        size = {} if k % 2 == 0 else {"height": 64, "width": 48}
        Image.fromarray(picture(k, **size)).save(folder / name, quality=95)
    return folder
