"""Config keys of DeepLab, with their defaults."""

from detectron2.config import CfgNode

__all__ = ["add_deeplab_config"]


def add_deeplab_config(cfg: CfgNode) -> None:
    """Add the keys of DeepLab.

    Args:
        cfg: config to extend in place, such as ``get_cfg()``.
    """
    # Largest fraction of a training crop that one class may cover, in (0, 1]; 1 = allow any crop.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0

    # Schedule WarmupPolyLR: (1 - step / MAX_ITER) ** POLY_LR_POWER, never below POLY_LR_CONSTANT_ENDING.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0

    resnets = cfg.MODEL.RESNETS
    resnets.STEM_TYPE = "deeplab"  # "basic" or "deeplab"
    resnets.RES4_DILATION = 1  # 1 or 2
    resnets.RES5_MULTI_GRID = [1, 2, 4]  # factor of RES5_DILATION for each block of res5

    head = cfg.MODEL.SEM_SEG_HEAD
    head.LOSS_TYPE = "hard_pixel_mining"  # or "cross_entropy"
    # Atrous spatial pyramid pooling: channels of its branches, their dilations, and dropout behind them.
    head.ASPP_CHANNELS = 256
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1  # probability
    # DeepLabV3+ only: the feature maps that the decoder adds to the pyramid, and their channels in it.
    head.PROJECT_FEATURES = ["res2"]
    head.PROJECT_CHANNELS = [48]
    head.USE_DEPTHWISE_SEPARABLE_CONV = False
