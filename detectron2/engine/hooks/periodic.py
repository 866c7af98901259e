"""Base class of hooks that run every few iterations and at the end."""

from __future__ import annotations

from typing import Literal

from ..train_loop import HookBase

__all__ = ["PeriodicHook"]


class PeriodicHook(HookBase):
    """Calls ``run`` every ``every`` iterations and once at the end; subclasses define ``run``.

    Args:
        every: iterations between two calls; 0 = only at the end.
    """

    last_run: Literal["after_train", "after_step", "never"] = "after_train"
    """When the last call happens: in ``after_train`` if training is complete (and did not end early right after a
    call); in ``after_step`` of the last iteration, before its checkpoint is written; or not in the last iteration."""

    _ran_at = -1

    def __init__(self, every: int) -> None:
        self._period = every

    def run(self) -> None:
        """Do the work of this hook."""
        raise NotImplementedError(f"{type(self).__name__} must define run()")

    def _due(self) -> bool:
        """Return whether ``after_step`` must call ``run`` in this iteration."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            return self.last_run == "after_step"
        return self._period > 0 and done % self._period == 0

    def after_step(self) -> None:
        if self._due():
            self.run()
            self._ran_at = self.trainer.iter + 1

    def after_train(self) -> None:
        # If training ended early, its last iteration may already have called run.
        if self.last_run == "after_train" and self.trainer.complete and self._ran_at != self.trainer.max_iter:
            self.run()
