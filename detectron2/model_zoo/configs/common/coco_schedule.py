"""Learning-rate schedules on COCO for batches of 16 images; 1x is 90k iterations, about 12 epochs."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.param_scheduler import MultiStepParamScheduler

WARMUP = 1000  # iterations


def step_schedule(first, second, last):
    """A tenth of the rate after ``first`` iterations, a hundredth after ``second``, the end at ``last``."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=[first, second, last]),
        warmup_length=WARMUP / last,
        warmup_method="linear",
        warmup_factor=0.001,
    )


lr_multiplier_1x = step_schedule(60000, 80000, 90000)
# 2x has the milestones of 1x with a warm-up for twice the length. Schedules are relative to train.max_iter, so with
# max_iter = 180000 it decays at 2/3 and 8/9 like 1x does.
lr_multiplier_2x = step_schedule(60000, 80000, 90000)
lr_multiplier_2x.warmup_length = WARMUP / 180000
lr_multiplier_3x = step_schedule(210000, 250000, 270000)
lr_multiplier_6x = step_schedule(480000, 520000, 540000)
lr_multiplier_9x = step_schedule(750000, 790000, 810000)
