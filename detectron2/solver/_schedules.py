"""Schedules for ``SOLVER.LR_SCHEDULER_NAME``."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from detectron2.utils.errors import BadValue
from detectron2.utils.registry import Registry

from .lr_scheduler import _get_warmup_factor_at_iter
from .param_scheduler import (
    CompositeParamScheduler,
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    PolynomialDecayParamScheduler,
    StepWithFixedGammaParamScheduler,
)

__all__ = ["LR_SCHEDULE_REGISTRY", "WITHOUT_WARMUP"]

logger = logging.getLogger(__name__)

LR_SCHEDULE_REGISTRY: Registry = Registry("LR_SCHEDULE")
"""Functions from a config to a ``ParamScheduler``, by name.

The curve starts at 1 and multiplies ``SOLVER.BASE_LR``; a warm-up is added before it."""

WITHOUT_WARMUP = {"OneCycleLR", "WarmupPolyLR"}
"""Curves that include a warm-up."""


def _end_share(cfg: CfgNode) -> float:
    """Return ``BASE_LR_END`` as a share of ``BASE_LR``."""
    first, last = cfg.SOLVER.BASE_LR, cfg.SOLVER.BASE_LR_END
    if not 0.0 <= last <= first:
        raise BadValue(f"SOLVER.BASE_LR_END must be in [0, SOLVER.BASE_LR = {first}], got {last}")
    return last / first if first else 0.0


@LR_SCHEDULE_REGISTRY.register()
def WarmupMultiStepLR(cfg: CfgNode) -> ParamScheduler:
    """Multiply by ``GAMMA`` at each of ``STEPS``."""
    end = cfg.SOLVER.MAX_ITER
    steps = [step for step in cfg.SOLVER.STEPS if step <= end]
    if len(steps) < len(cfg.SOLVER.STEPS):
        logger.warning(
            "SOLVER.STEPS %s are partly beyond SOLVER.MAX_ITER %d; those are ignored.",
            tuple(cfg.SOLVER.STEPS),
            end,
        )
    values = [cfg.SOLVER.GAMMA**k for k in range(len(steps) + 1)]
    return MultiStepParamScheduler(values, num_updates=end, milestones=steps)


@LR_SCHEDULE_REGISTRY.register()
def WarmupCosineLR(cfg: CfgNode) -> ParamScheduler:
    """Follow half a cosine wave from ``BASE_LR`` to ``BASE_LR_END``."""
    return CosineParamScheduler(1.0, _end_share(cfg))


@LR_SCHEDULE_REGISTRY.register()
def WarmupStepWithFixedGammaLR(cfg: CfgNode) -> ParamScheduler:
    """Multiply by ``GAMMA``, ``NUM_DECAYS`` times, equally spaced."""
    solver = cfg.SOLVER
    return StepWithFixedGammaParamScheduler(1.0, solver.NUM_DECAYS, solver.GAMMA, solver.MAX_ITER)


@LR_SCHEDULE_REGISTRY.register()
def WarmupPolynomialLR(cfg: CfgNode) -> ParamScheduler:
    """Decay as ``(1 - where) ** POLY_POWER``, from ``BASE_LR`` to 0."""
    return PolynomialDecayParamScheduler(1.0, cfg.SOLVER.get("POLY_POWER", 0.9))


@LR_SCHEDULE_REGISTRY.register()
def OneCycleLR(cfg: CfgNode) -> ParamScheduler:
    """Rise to ``BASE_LR``, then fall far below the start (Smith & Topin, https://arxiv.org/abs/1708.07120)."""
    node = cfg.SOLVER.get("ONE_CYCLE", {})
    up = node.get("UP_SHARE", 0.3)
    start = 1.0 / node.get("START_DIVISOR", 25.0)
    end = start / node.get("END_DIVISOR", 1e4)
    if not 0.0 < up < 1.0:
        raise BadValue(f"SOLVER.ONE_CYCLE.UP_SHARE must be in (0, 1), got {up}")
    return CompositeParamScheduler(
        [CosineParamScheduler(start, 1.0), CosineParamScheduler(1.0, end)],
        lengths=[up, 1.0 - up],
        interval_scaling=["rescaled", "rescaled"],
    )


@LR_SCHEDULE_REGISTRY.register()
def WarmupPolyLR(cfg: CfgNode) -> ParamScheduler:
    """Decay as ``(1 - where) ** POLY_LR_POWER`` times the warm-up, as in DeepLab and Mask2Former."""
    return _WarmupPoly(cfg.SOLVER)


class _WarmupPoly(ParamScheduler):
    """A polynomial decay, not below a share of the start, multiplied by a warm-up.

    Args:
        solver: the node ``SOLVER``.
    """

    def __init__(self, solver: CfgNode) -> None:
        self.power = solver.get("POLY_LR_POWER", 0.9)
        self.ending = solver.get("POLY_LR_CONSTANT_ENDING", 0.0)
        self.steps = solver.MAX_ITER
        self.warmup = (solver.WARMUP_METHOD, solver.WARMUP_ITERS, solver.WARMUP_FACTOR)

    def __call__(self, where: float) -> float:
        method, length, factor = self.warmup
        step = round(where * self.steps)
        value = max(1.0 - where, 0.0) ** self.power
        if step >= length:
            return max(value, self.ending)
        return value * _get_warmup_factor_at_iter(method, step, length, factor)
