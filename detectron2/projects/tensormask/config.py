"""Config keys of TensorMask."""

from typing import Any

from detectron2.config import CfgNode

__all__ = ["add_tensormask_config"]


def add_tensormask_config(cfg: Any) -> None:
    """Add ``MODEL.TENSOR_MASK`` to a config.

    Args:
        cfg: config to extend in place.
    """
    cfg.MODEL.TENSOR_MASK = CfgNode(
        {
            "NUM_CLASSES": 80,  # classes without background
            "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6", "p7"],  # feature maps, finest first
            # Heads: number of 3x3 convolutions, and their channels
            "NUM_CONVS": 4,
            "CLS_CHANNELS": 256,
            "BBOX_CHANNELS": 128,
            "MASK_CHANNELS": 128,
            # Masks are predicted in the aligned representation, and with a bipyramid in finer ones on coarser levels.
            "ALIGNED_ON": False,
            "BIPYRAMID_ON": False,
            # Losses
            "BBOX_REG_WEIGHTS": (1.5, 1.5, 0.75, 0.75),
            "FOCAL_LOSS_ALPHA": 0.3,
            "FOCAL_LOSS_GAMMA": 3.0,
            "MASK_LOSS_WEIGHT": 2.0,
            "POSITIVE_WEIGHT": 1.5,  # of mask pixels that belong to the object
            # Inference
            "SCORE_THRESH_TEST": 0.05,
            "TOPK_CANDIDATES_TEST": 6000,  # over all levels, before NMS
            "NMS_THRESH_TEST": 0.5,  # IoU of boxes
        }
    )
