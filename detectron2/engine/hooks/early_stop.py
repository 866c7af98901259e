"""Ends training that no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from detectron2.utils import comm
from detectron2.utils.errors import BadValue, UnknownNameError

from ..train_loop import StopTraining
from .periodic import PeriodicHook

__all__ = ["EarlyStopping"]


class EarlyStopping(PeriodicHook):
    """Ends training when a metric has not improved for some evaluations.

    Training then ends as if complete: with the final checkpoint and evaluation. The main process decides for all.

    Args:
        eval_period: iterations between two evaluations.
        metric: name in the storage, such as ``"bbox/AP"`` or ``"val/total_loss"``.
        mode: "max" if larger values are better, else "min".
        patience: number of evaluations without improvement after which training ends.
        min_delta: smallest change that counts as improvement.

    Raises:
        ValueError: if ``mode`` is unknown or ``patience`` is less than 1.
    """

    runs_again = True
    last_run = "never"

    def __init__(
        self, eval_period: int, metric: str, mode: str = "max", patience: int = 5, min_delta: float = 0.0
    ) -> None:
        if mode not in ("max", "min"):
            raise BadValue(f"mode must be 'max' or 'min', got {mode!r}")
        if patience < 1:
            raise BadValue(f"patience must be at least 1, got {patience}")
        super().__init__(eval_period)
        self._metric = metric
        self._sign = 1.0 if mode == "max" else -1.0
        self._patience = patience
        self._min_delta = min_delta
        self.best: float | None = None
        self.waited = 0

    def before_train(self) -> None:
        # A run that has stopped early is resumed with the same settings.
        if self.waited >= self._patience:
            raise StopTraining(
                f"it has already stopped: no better {self._metric} in {self.waited} evaluations"
            )

    def run(self) -> None:
        latest = self.trainer.storage.latest()
        # All processes use the metrics of the main one, so that they stop, or raise, together.
        mine = (latest.get(self._metric), [name for name in latest if "/" in name])
        value, known = comm.all_gather(mine)[0]
        if value is None:
            raise UnknownNameError(
                f"early stopping needs the metric {self._metric!r}, which no evaluation returned; there are: "
                f"{', '.join(known) or 'none'}"
            )
        score = self._sign * value[0]
        if math.isfinite(score) and (self.best is None or score > self.best + self._min_delta):
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        if self.waited >= self._patience:
            best = None if self.best is None else self._sign * self.best
            raise StopTraining(
                f"{self._metric} has not improved for {self.waited} evaluations (best: {best})"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and the number of evaluations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the best score and the number of evaluations since."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]
