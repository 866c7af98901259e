"""Small things that pages speak of: a run, a model, pictures. Used by their invisible ``setup`` code only."""

import contextlib
import io
from pathlib import Path

from detectron2.cli import main
from detectron2.config import CfgNode, get_cfg
from detectron2.data.toys import TOYS, write_toys

CONFIG = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  DEVICE: cpu
  MASK_ON: true
  PIXEL_STD: [57.375, 57.12, 58.395]
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, NORM: BN, OUT_FEATURES: [res2, res3]}
  FPN: {IN_FEATURES: [res2, res3], OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[16], [32], [64]]}
  RPN: {IN_FEATURES: [p2, p3, p4], PRE_NMS_TOPK_TRAIN: 50, POST_NMS_TOPK_TRAIN: 30, POST_NMS_TOPK_TEST: 20}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3], BATCH_SIZE_PER_IMAGE: 16, NUM_CLASSES: 4}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 1, CONV_DIM: 8, POOLER_RESOLUTION: 14}
INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64, MASK_FORMAT: auto}
DATALOADER: {NUM_WORKERS: 0}
SOLVER: {IMS_PER_BATCH: 2, MAX_ITER: 2, STEPS: [], BASE_LR: 0.001}
TEST: {DETECTIONS_PER_IMAGE: 10}
"""


def config() -> CfgNode:
    """Return the config of a small Mask R-CNN with the classes of the toys."""
    cfg = get_cfg()
    cfg.merge_from_other_cfg(CfgNode.load_cfg(CONFIG))
    return cfg


def toys(folder: str = "toys", train: int = 4, val: int = 2) -> None:
    """Write a small data set."""
    write_toys(folder, {"train": train, "val": val})


def run(folder: str) -> None:
    """Train for a few steps, so that ``folder`` is a run, on ``toys``."""
    if not Path("toys").exists():
        toys()
    Path("small.yaml").write_text(CONFIG, encoding="utf-8")
    words = ["train", "--train", "toys/train.json", "--val", "toys/val.json", "--model", "small.yaml"]
    words += ["--weights", "none", "--epochs", "1", "--batch-size", "2", "--workers", "0", "--device", "cpu"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main([*words, "--output", folder, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]) == 0


__all__ = ["CONFIG", "TOYS", "config", "run", "toys"]
