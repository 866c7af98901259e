"""Optimizers, parameter groups and learning rate schedules."""

from .build import (
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
    layer_decay,
    layer_decay_params,
    pattern_factors,
)
from .lr_scheduler import LRMultiplier, LRScheduler, WarmupCosineLR, WarmupMultiStepLR, WarmupParamScheduler

__all__ = [
    "LRMultiplier",
    "LRScheduler",
    "WarmupCosineLR",
    "WarmupMultiStepLR",
    "WarmupParamScheduler",
    "build_lr_scheduler",
    "build_optimizer",
    "get_default_optimizer_params",
    "layer_decay",
    "layer_decay_params",
    "pattern_factors",
]
