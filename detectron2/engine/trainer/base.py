"""Iterations with hooks: the part of a training that knows neither models nor data."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.utils.events import EventStorage

__all__ = ["HookBase", "StopTraining", "TrainerBase"]

logger = logging.getLogger("detectron2.engine.train_loop")


class HookBase:
    """Something to do at fixed points of a training.

    The points, in order::

        before_train()
        for each iteration:
            before_step()
            run_step()  # calls after_backward() once the gradients are there
            after_step()
        after_train()

    `trainer` is set when the hook is registered. `after_train` runs also when the training ended
    with an error; `self.trainer.iter + 1 >= self.trainer.max_iter` tells whether it is complete.
    """

    trainer: TrainerBase = None  # type: ignore[assignment]
    """The trainer, a weak reference."""

    runs_again = False
    """Whether a resumed training calls `after_step` for the checkpoint's iteration, if the checkpoint
    was written before this hook had seen that iteration. True for hooks that evaluate."""

    def before_train(self) -> None:
        """Called once before the first iteration."""

    def after_train(self) -> None:
        """Called once after the last iteration."""

    def before_step(self) -> None:
        """Called before each iteration."""

    def after_backward(self) -> None:
        """Called in each iteration between the backward pass and the optimizer's step."""

    def after_step(self) -> None:
        """Called after each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep; a hook that returns something also defines `load_state_dict`."""
        return {}


class StopTraining(Exception):
    """Raised by a hook in `after_step` to end the training early, with success."""


class TrainerBase:
    """Iterations with hooks, and nothing else: subclasses define `run_step`.

    Attributes:
        iter: iteration in progress; equals `max_iter` after a complete training.
        start_iter: first iteration.
        max_iter: end of the training (not included).
        storage: the open `EventStorage` while training.
    """

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        self._hooks_done: int | None = None
        self.max_iter: int
        self.storage: EventStorage

    @property
    def last_iter(self) -> int:
        """Iteration in progress, or after a complete training the last one: where resuming goes on behind."""
        return min(self.iter, getattr(self, "max_iter", self.iter + 1) - 1)

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Adds hooks, which run in order of registration; None is left out."""
        new = [hook for hook in hooks if hook is not None]
        for hook in new:
            if not isinstance(hook, HookBase):
                raise TypeError(f"a hook must be a HookBase, got {type(hook).__name__}")
            # Weak, because trainer and hook would else keep each other, and the model, alive.
            hook.trainer = weakref.proxy(self)
        self._hooks.extend(new)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Runs iterations `start_iter`, …, `max_iter - 1`.

        Args:
            start_iter: first iteration.
            max_iter: end, not included.
        """
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                # Tells the hooks' after_train that every iteration is done.
                self.iter = max(max_iter, start_iter)
            except StopTraining as reason:
                logger.info("Training ends early after iteration %d: %s", self.iter, reason)
                self.max_iter = self.iter = self.iter + 1
            except BaseException as error:
                if isinstance(error, Exception):
                    logger.exception("Training stopped by an error in iteration %d.", self.iter)
                self._close_after_error()
                raise
            self.after_train()

    def _close_after_error(self) -> None:
        """Lets the hooks close what they hold; their errors must not hide the one that ended the training."""
        try:
            self.after_train()
        except Exception:
            logger.exception("This went wrong too, while the hooks closed after the error above.")

    def before_train(self) -> None:
        """Calls the hooks."""
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        """Calls the hooks with the storage at the end of the training."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        """Keeps the storage in step and calls the hooks."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        """Calls the hooks."""
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        """Calls the hooks."""
        for done, hook in enumerate(self._hooks, start=1):
            # A checkpoint that this hook writes says which hooks have seen this iteration.
            self._hooks_done = done
            hook.after_step()
        self._hooks_done = None

    def run_step(self) -> None:
        """One iteration."""
        raise NotImplementedError(f"{type(self).__name__} must define run_step()")

    def state_dict(self) -> dict[str, Any]:
        """The iteration and the states of the hooks that have one."""
        state: dict[str, Any] = {"iteration": self.last_iter}
        hooks = {type(h).__qualname__: h.state_dict() for h in self._hooks}
        hooks = {name: kept for name, kept in hooks.items() if kept}
        if hooks:
            state["hooks"] = hooks
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave; states of hooks that are not registered are named and left out."""
        self.iter = state_dict["iteration"]
        present = {type(h).__qualname__: h for h in self._hooks}
        for name, kept in state_dict.get("hooks", {}).items():
            if name in present:
                present[name].load_state_dict(kept)  # type: ignore[attr-defined]
            else:
                logger.warning("The checkpoint has a state for the hook %s, which this trainer lacks.", name)
