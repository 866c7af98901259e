"""Three ways to use a checkpoint, and a log of what was taken from it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from detectron2.config.training_options import TrainingOptions
from detectron2.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from .default import DefaultTrainer

__all__ = ["RESUME_MODES", "resume"]

logger = logging.getLogger(__name__)

RESUME_MODES = ("resume", "finetune", "restart-schedule")


def resume(trainer: DefaultTrainer, settings: TrainingOptions, wanted: bool) -> None:
    """See `DefaultTrainer.resume_or_load`.

    Raises:
        ValueError: for an unknown `SOLVER.RESUME_MODE`.
    """
    mode = settings.resume_mode
    if mode not in RESUME_MODES:
        raise ValueError(f"SOLVER.RESUME_MODE is {mode!r}. {did_you_mean(mode, RESUME_MODES)}")
    saver = trainer.checkpointer
    if not wanted or mode == "resume":
        rest = saver.resume_or_load(settings.weights, resume=wanted)
        if saver.resumed_from:
            # What the checkpoint holds is the iteration that was complete when it was written.
            trainer.start_iter = trainer.iter + 1
            _log_resumed(trainer, saver.resumed_from, rest)
        else:
            logger.info("Starting anew with the weights of %s.", settings.weights or "the initialisation")
        return
    found = saver._choose_resume()
    if not found:
        logger.warning("There is no checkpoint in %s to %s from; starting anew.", saver.save_dir, mode)
        saver.load(settings.weights, checkpointables=[])
        return
    if mode == "finetune":
        saver.load(found, checkpointables=[])
        logger.info("Fine-tuning from %s: only the weights were restored.", found)
        return
    rest = saver.load(found, checkpointables=[])
    _restart_schedule(trainer, rest.get("trainer", {}))
    logger.info(
        "Restarting the schedule from %s: weights, optimizer state%s were restored; iteration, learning rate, data "
        "position and random states start anew.",
        found,
        " and EMA" if any(type(h).__name__ == "EMAHook" for h in trainer._hooks) else "",
    )


def _restart_schedule(trainer: DefaultTrainer, kept: dict[str, Any]) -> None:
    """Takes the optimizer's moments and the EMA, and leaves everything that knows the time."""
    inner = kept.get("_trainer", {})
    if "optimizer" in inner:
        optimizer = trainer.optimizer
        fresh = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(inner["optimizer"])
        # The state dict brought the rates of the old schedule along.
        for group, options in zip(optimizer.param_groups, fresh):
            group.update(options)
    hooks = {type(h).__qualname__: h for h in trainer._hooks}
    for name in ("EMAHook",):
        if name in hooks and name in kept.get("hooks", {}):
            hooks[name].load_state_dict(kept["hooks"][name])  # type: ignore[attr-defined]


def _log_resumed(trainer: DefaultTrainer, path: str, rest: dict[str, Any]) -> None:
    restored = ["weights", "optimizer"]
    if getattr(trainer._trainer.precision, "scaler", None) is not None:
        restored.append("loss scaler")
    restored += [type(h).__name__ for h in trainer._hooks if hasattr(h, "load_state_dict")]
    logger.info(
        "Resuming from %s at iteration %d of %d. Restored: %s.",
        path,
        trainer.start_iter,
        trainer.max_iter,
        ", ".join(restored),
    )
    if rest.get("iteration", trainer.iter) != trainer.iter:
        logger.warning(
            "The file says iteration %s, its trainer state %s.", rest.get("iteration"), trainer.iter
        )
