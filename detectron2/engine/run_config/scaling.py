"""The same training on another number of processes."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.config import CfgNode

__all__ = ["rescale", "scale_to_workers"]

logger = logging.getLogger(__name__)


def _scaled(value: Any, factor: float) -> Any:
    """A length times a factor; epochs do not depend on the number of processes, and 0 means "never"."""
    return value if isinstance(value, str) or value <= 0 else max(1, round(value * factor))


def rescale(cfg: CfgNode, growth: float) -> None:
    """Multiplies the learning rate and divides the lengths of a config, in place, for batches so much larger."""
    solver, test = cfg.SOLVER, cfg.TEST
    solver.BASE_LR = solver.BASE_LR * growth
    for name in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
        solver[name] = _scaled(solver[name], 1 / growth)
    solver.STEPS = tuple(_scaled(step, 1 / growth) for step in solver.STEPS)
    test.EVAL_PERIOD = _scaled(test.EVAL_PERIOD, 1 / growth)


def scale_to_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
    """See `DefaultTrainer.auto_scale_workers`."""
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference in (0, num_workers):
        return cfg
    if cfg.SOLVER.IMS_PER_BATCH % reference:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} is no multiple of SOLVER.REFERENCE_WORLD_SIZE {reference}"
        )
    scaled = cfg.clone()
    scaled.defrost()
    growth = num_workers / reference
    solver = scaled.SOLVER
    solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * growth)
    rescale(scaled, growth)
    solver.REFERENCE_WORLD_SIZE = num_workers
    logger.info(
        "Scaled from %d to %d processes: %d images a batch, learning rate %.6g, %s iterations, warm-up %s.",
        reference,
        num_workers,
        solver.IMS_PER_BATCH,
        solver.BASE_LR,
        solver.MAX_ITER,
        solver.WARMUP_ITERS,
    )
    if cfg.is_frozen():
        scaled.freeze()
    return scaled
