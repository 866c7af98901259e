"""Three ways to resume from a checkpoint, and logging what was restored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config.training_options import TrainingOptions
from detectron2.utils.suggest import did_you_mean

from ..hooks.ema import EMAHook
from ..train_loop import HookBase, SimpleTrainer

__all__ = ["RESUME_MODES", "Resumable", "resume"]

logger = logging.getLogger(__name__)

RESUME_MODES = ("resume", "finetune", "restart-schedule")


class Resumable(Protocol):
    """The part of a trainer that resuming needs."""

    checkpointer: DetectionCheckpointer
    iter: int
    start_iter: int
    max_iter: int
    _trainer: SimpleTrainer

    def named_hooks(self) -> dict[str, HookBase]:
        """Return the hooks by the names that checkpoints use."""


def resume(trainer: Resumable, settings: TrainingOptions, wanted: bool) -> None:
    """See ``DefaultTrainer.resume_or_load``.

    Raises:
        ValueError: if ``SOLVER.RESUME_MODE`` is unknown.
    """
    mode = settings.resume_mode
    if mode not in RESUME_MODES:
        raise ValueError(f"SOLVER.RESUME_MODE is {mode!r}. {did_you_mean(mode, RESUME_MODES)}")
    saver = trainer.checkpointer
    if not wanted or mode == "resume":
        rest = saver.resume_or_load(settings.weights, resume=wanted)
        if saver.resumed_from:
            # A checkpoint contains its last complete iteration.
            trainer.start_iter = trainer.iter + 1
            _log_resumed(trainer, saver.resumed_from, rest)
        else:
            logger.info(
                "Starting a new training with %s.", settings.weights or "randomly initialised weights"
            )
        return
    kept = saver.resume(checkpointables=[])
    if kept is None:
        logger.warning("%s has no checkpoint for %s; starting a new training.", saver.save_dir, mode)
        saver.load(settings.weights, checkpointables=[])
        return
    found = saver.resumed_from
    if mode == "finetune":
        logger.info("Fine-tuning from %s: only the weights were restored.", found)
        return
    averages = _restart_schedule(trainer, kept.get("trainer", {}))
    logger.info(
        "Restarting the schedule from %s: weights, optimizer state%s were restored; iteration, learning rate, data "
        "position and random states were reset.",
        found,
        " and EMA" if averages else "",
    )


def _restart_schedule(trainer: Resumable, kept: Mapping[str, Any]) -> int:
    """Restore the moments of the optimizer and the averages of weights; return the number of averages."""
    inner = kept.get("_trainer", {})
    if "optimizer" in inner:
        optimizer = trainer._trainer.optimizer
        fresh = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(inner["optimizer"])
        # Undo the learning rates of the old schedule, which are part of the state dict.
        for group, options in zip(optimizer.param_groups, fresh):
            group.update(options)
    states = kept.get("hooks", {})
    averages = {name: hook for name, hook in trainer.named_hooks().items() if isinstance(hook, EMAHook)}
    for name, hook in averages.items():
        if name in states:
            hook.load_state_dict(states[name])
    return len(averages)


def _log_resumed(trainer: Resumable, path: str, rest: Mapping[str, Any]) -> None:
    restored = ["weights", "optimizer"]
    if trainer._trainer.precision.scaler is not None:
        restored.append("loss scaler")
    restored += [name for name, hook in trainer.named_hooks().items() if hasattr(hook, "load_state_dict")]
    logger.info(
        "Resuming from %s at iteration %d of %d. Restored: %s.",
        path,
        trainer.start_iter,
        trainer.max_iter,
        ", ".join(restored),
    )
    if rest.get("iteration", trainer.iter) != trainer.iter:
        logger.warning(
            "The checkpoint has iteration %s, but its trainer state has %s.",
            rest.get("iteration"),
            trainer.iter,
        )
