"""Saving checkpoints: periodically, and the best by a metric."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.checkpoint import Checkpointer, ShardedCheckpointer
from detectron2.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from detectron2.utils import comm
from detectron2.utils.errors import BadValue

from ..train_loop import HookBase
from .ema import EMAHook
from .periodic import PeriodicHook
from .resume_state import collect_states

__all__ = ["BestCheckpointer", "PeriodicCheckpointer"]

logger = logging.getLogger("detectron2.engine.hooks")


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """``detectron2.checkpoint.PeriodicCheckpointer`` as a hook: saves every ``period`` iterations and at the end."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if (self.period > 0 and done % self.period == 0) or (self.max_iter and done >= self.max_iter):
            # No checkpoint may hold weights that diverged.
            self.trainer.loop.finish_checks()
        self.step(self.trainer.iter)

    def after_train(self) -> None:
        # Training that ended early has not reached the last iteration in after_step.
        if self.trainer.complete and self.max_iter and self.trainer.max_iter < self.max_iter:
            self.checkpointer.save(f"{self.file_prefix}_final", iteration=self.trainer.last_iter)


class BestCheckpointer(PeriodicHook):
    """Saves a checkpoint whenever a metric is better than ever before.

    Register it after the hook that computes the metric, with the same period.

    Args:
        eval_period: iterations between two checks of the metric; 0 checks only at the end.
        checkpointer: saves the checkpoint.
        val_metric: name in the storage, such as ``"bbox/AP50"``.
        mode: "max" if larger values are better, else "min".
        file_prefix: name of the file without its extension.
        ema: the averaged weights that the evaluation uses, to save them without a training state; None saves the
            trained weights.
        everywhere: whether every process has this hook. The main process then decides for all, and the checkpoint
            holds the states of all processes for resuming.
        weights: returns the weights of an iteration, where these are no longer the model's; they are saved without a
            training state.

    Raises:
        ValueError: if ``mode`` is unknown.
    """

    runs_again = True

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
        *,
        ema: EMAHook | None = None,
        everywhere: bool = False,
        weights: Callable[[int], Mapping[str, Any]] | None = None,
    ) -> None:
        if mode not in ("max", "min"):
            raise BadValue(f"mode must be 'max' or 'min', got {mode!r}")
        super().__init__(eval_period)
        self._checkpointer = checkpointer
        self._val_metric = val_metric
        self._better = operator.gt if mode == "max" else operator.lt
        self._file_prefix = file_prefix
        self._ema = ema
        self._everywhere = everywhere
        self._weights = weights
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _better_value(self) -> tuple[float, int] | None:
        """Return the metric and its iteration if it is better than ever before."""
        found = self.trainer.storage.latest().get(self._val_metric)
        if found is None:
            known = [name for name in self.trainer.storage.latest() if "/" in name]
            logger.warning(
                "BestCheckpointer finds no metric %r in the storage, so it saves nothing. Metrics of evaluations: %s",
                self._val_metric,
                ", ".join(known) or "none",
            )
            return None
        value, when = found
        if not math.isfinite(value):
            return None
        if self.best_metric is not None and not self._better(value, self.best_metric):
            return None
        return value, when

    def run(self) -> None:
        found = self._better_value() if not self._everywhere or comm.is_main_process() else None
        if self._everywhere:
            found = comm.all_gather(found)[0]
        if found is None:
            return
        value, when = found
        before, self.best_metric, self.best_iter = self.best_metric, value, when
        logger.info(
            "Saving %s: %s is %.5g%s.",
            self._file_prefix,
            self._val_metric,
            value,
            "" if before is None else f", the best before was {before:.5g}",
        )
        self._save(when)

    def _save(self, when: int) -> None:
        """Save the weights that were evaluated."""
        extra: dict[str, Any] = {"iteration": when, "metric": {self._val_metric: self.best_metric}}
        if self._weights is not None:
            if comm.is_main_process():
                self._checkpointer.export(self._file_prefix, self._weights(when), **extra)
            return
        if self._ema is not None:
            with self._ema.applied():
                self._checkpointer.export(self._file_prefix, **extra)
            return
        self.trainer.loop.finish_checks()
        if isinstance(self._checkpointer, ShardedCheckpointer):
            # A single file for inference; training resumes from the periodic shards.
            self._checkpointer.export(self._file_prefix, **extra)
            return
        if self._everywhere:
            collect_states(self.trainer)
        self._checkpointer.save(self._file_prefix, **extra)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far and its iteration."""
        if self.best_metric is None:
            return {}
        return {"best_metric": self.best_metric, "best_iter": self.best_iter}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the best value, so that a resumed run does not overwrite a better checkpoint."""
        self.best_metric = state_dict["best_metric"]
        self.best_iter = state_dict["best_iter"]
