"""Ending a training that no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from detectron2.utils import comm

from ..train_loop import HookBase, StopTraining

__all__ = ["EarlyStopping"]


class EarlyStopping(HookBase):
    """Ends the training when a metric has not improved for some evaluations.

    The end counts as success: the final checkpoint is written and the final evaluation runs. All
    processes must see the same metric or none; the main one decides for all.

    Args:
        eval_period: iterations between two evaluations.
        metric: name in the storage, such as `"bbox/AP"` or `"val/total_loss"`.
        mode: "max" or "min", which is better.
        patience: evaluations without improvement before the end.
        min_delta: smallest change that counts as improvement.

    Raises:
        ValueError: for another mode or a patience below 1.
    """

    runs_again = True

    def __init__(
        self, eval_period: int, metric: str, mode: str = "max", patience: int = 5, min_delta: float = 0.0
    ) -> None:
        if mode not in ("max", "min"):
            raise ValueError(f"mode must be 'max' or 'min', got {mode!r}")
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self._period = eval_period
        self._metric = metric
        self._sign = 1.0 if mode == "max" else -1.0
        self._patience = patience
        self._min_delta = min_delta
        self.best: float | None = None
        self.waited = 0

    def _stops(self) -> bool:
        """Looks at the metric; main process only."""
        found = self.trainer.storage.latest().get(self._metric)
        if found is None:
            known = ", ".join(n for n in self.trainer.storage.latest() if "/" in n) or "none"
            raise KeyError(
                f"early stopping watches {self._metric!r}, which no evaluation gave. Given: {known}"
            )
        score = self._sign * found[0]
        if math.isfinite(score) and (self.best is None or score > self.best + self._min_delta):
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        return self.waited >= self._patience

    def before_train(self) -> None:
        # A run that had stopped is started again with the same settings.
        if self.waited >= self._patience:
            raise StopTraining(
                f"it had stopped before: no better {self._metric} in {self.waited} evaluations"
            )

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period <= 0 or done % self._period or done == self.trainer.max_iter:
            return
        stops = self._stops() if comm.is_main_process() else False
        if comm.all_gather(stops)[0]:
            best = None if self.best is None else self._sign * self.best
            raise StopTraining(
                f"{self._metric} has not improved for {self.waited} evaluations (best: {best})"
            )

    def state_dict(self) -> dict[str, Any]:
        """Best score and evaluations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on counting where the checkpoint was written."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]
