"""Schedules for COCO in epochs of 7500 steps of 16 images: a tenth of the rate near the end, no warm-up."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.param_scheduler import MultiStepParamScheduler

EPOCH = 7500


def schedule(epochs, drop):
    """Train ``epochs`` epochs, the last of them after ``drop`` with a tenth of the rate."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1], milestones=[drop * EPOCH, epochs * EPOCH]),
        warmup_length=0.0,
        warmup_method="linear",
        warmup_factor=0.001,
    )


lr_multiplier_12ep = schedule(12, 11)
lr_multiplier_24ep = schedule(24, 20)
lr_multiplier_36ep = schedule(36, 30)
lr_multiplier_50ep = schedule(50, 40)
