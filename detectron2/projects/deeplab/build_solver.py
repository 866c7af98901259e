"""Build the learning rate schedule of a config, DeepLab's included."""

import torch

from detectron2 import solver
from detectron2.config import CfgNode
from detectron2.solver import LRScheduler

from .lr_scheduler import WarmupPolyLR

__all__ = ["WarmupPolyLR", "build_lr_scheduler"]


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the schedule of a config: ``WarmupPolyLR`` here, any other by ``detectron2.solver.build_lr_scheduler``.

    Args:
        cfg: a config with the keys of ``add_deeplab_config``.
        optimizer: optimizer whose learning rates the schedule sets.
    """
    options = cfg.SOLVER
    if options.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return solver.build_lr_scheduler(cfg, optimizer)
    return WarmupPolyLR(
        optimizer,
        options.MAX_ITER,
        warmup_factor=options.WARMUP_FACTOR,
        warmup_iters=options.WARMUP_ITERS,
        warmup_method=options.WARMUP_METHOD,
        power=options.POLY_LR_POWER,
        constant_ending=options.POLY_LR_CONSTANT_ENDING,
    )
