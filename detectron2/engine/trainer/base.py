"""Iterations with hooks, independent of models and data."""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.utils.errors import BadType
from detectron2.utils.events import EventStorage

__all__ = ["HookBase", "StopTraining", "TrainerBase"]

logger = logging.getLogger("detectron2.engine.train_loop")


class HookBase:
    """Base of hooks, whose methods are called at fixed points of training.

    The points, in order::

        before_train()
        for each iteration:
            before_step()
            run_step()  # calls after_backward() between the backward pass and the optimizer step
            after_step()
        after_train()

    ``trainer`` is set when the hook is registered. ``after_train`` also runs after an error; then
    ``self.trainer.complete`` is False.
    """

    trainer: TrainerBase = None  # type: ignore[assignment]
    """The trainer, as a weak reference."""

    runs_again = False
    """Whether a resumed run calls ``after_step`` for the iteration of its checkpoint, if the checkpoint was written
    before this hook ran in that iteration. True for hooks that evaluate."""

    def before_train(self) -> None:
        """Run once before the first iteration."""

    def after_train(self) -> None:
        """Run once after the last iteration."""

    def before_step(self) -> None:
        """Run before each iteration."""

    def after_backward(self) -> None:
        """Run in each iteration between the backward pass and the optimizer step."""

    def after_step(self) -> None:
        """Run after each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save in checkpoints; a hook with a state also defines ``load_state_dict``."""
        return {}


class StopTraining(Exception):
    """Raised by a hook in ``after_step`` to end training early, with success."""


def _log_error(error: Exception, iteration: int) -> None:
    """Log the error that ends training, with its traceback in the log file only, since the caller sees it anyway."""
    lines = str(error).strip().splitlines() or [""]
    text = "Training stopped by an error in iteration %d: %s: %s"
    logger.error(text, iteration, type(error).__name__, lines[0])
    logger.error("Where it comes from:", exc_info=error, extra={"to_console": False})


class TrainerBase:
    """Runs iterations and hooks; subclasses define ``run_step``.

    Attributes:
        iter: current iteration; equals ``max_iter`` after complete training.
        start_iter: first iteration.
        max_iter: end of training (not included).
        storage: the open ``EventStorage`` during training.
    """

    _failed = False

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        self._hooks_done: int | None = None
        self.max_iter: int
        self.storage: EventStorage

    @property
    def last_iter(self) -> int:
        """Last finished iteration; a resumed run starts at the next one."""
        return min(self.iter, getattr(self, "max_iter", self.iter + 1) - 1)

    @property
    def complete(self) -> bool:
        """Whether training has reached the last iteration, without an error or interrupt."""
        return not self._failed and self.iter + 1 >= self.max_iter

    @property
    def loop(self) -> TrainerBase:
        """The trainer that takes the steps: the one in ``_trainer`` if a subclass wraps another trainer."""
        inner: TrainerBase = getattr(self, "_trainer", self)
        return inner

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Add hooks, which run in the order of registration; None is ignored."""
        new = [hook for hook in hooks if hook is not None]
        for hook in new:
            if not isinstance(hook, HookBase):
                raise BadType(f"a hook must be a HookBase, got {type(hook).__name__}")
            # Weak, because trainer and hook would otherwise keep each other, and the model, alive.
            hook.trainer = weakref.proxy(self)
        self._hooks.extend(new)

    def named_hooks(self) -> dict[str, HookBase]:
        """Return the hooks by name: that of their class, with ``#2``, ``#3``, … for further hooks of the same class."""
        count: Counter[str] = Counter()
        named = {}
        for hook in self._hooks:
            kind = type(hook).__qualname__
            count[kind] += 1
            named[kind if count[kind] == 1 else f"{kind}#{count[kind]}"] = hook
        return named

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations ``start_iter``, …, ``max_iter - 1``.

        Args:
            start_iter: first iteration.
            max_iter: end, not included.
        """
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        self._failed = False
        with EventStorage(start_iter) as self.storage:
            try:
                self._run_iterations(start_iter, max_iter)
                self.loop.finish_checks()
            except BaseException as error:
                self._failed = True
                if isinstance(error, Exception):
                    _log_error(error, self.iter)
                self._close_after_error()
                raise
            self.after_train()

    def _run_iterations(self, start_iter: int, max_iter: int) -> None:
        """Run all iterations, or fewer if a hook ends training early."""
        done = start_iter
        try:
            self.before_train()
            for self.iter in range(start_iter, max_iter):
                self.before_step()
                self.run_step()
                done = self.iter + 1
                self.after_step()
        except StopTraining as reason:
            logger.info("Training ends early after iteration %d: %s", done - 1, reason)
            self.max_iter = done
        # Tells the hooks' after_train that every iteration is done.
        self.iter = done

    def _close_after_error(self) -> None:
        """Let the hooks release their resources; their errors must not hide the one that ended training."""
        for close in (self.loop.finish_checks, self.after_train):
            try:
                close()
            except Exception:
                logger.exception("Another error occurred while closing the hooks after the error above.")

    def finish_checks(self) -> None:
        """Finish pending checks of losses, which raise an error if a loss is not finite."""

    def before_train(self) -> None:
        """Call the hooks."""
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        """Call all hooks, even if one raises an error."""
        self.storage.iter = self.iter
        first: BaseException | None = None
        for hook in self._hooks:
            try:
                hook.after_train()
            except BaseException as error:
                self._failed = True  # the hooks that follow only close
                if first is not None:
                    logger.exception("%s.after_train failed too.", type(hook).__name__)
                first = first or error
        if first is not None:
            raise first

    def before_step(self) -> None:
        """Set the storage to this iteration and call the hooks."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        """Call the hooks."""
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        """Call the hooks."""
        for done, hook in enumerate(self._hooks, start=1):
            # A checkpoint that this hook writes records which hooks have seen this iteration.
            self._hooks_done = done
            hook.after_step()
        self._hooks_done = None

    def run_step(self) -> None:
        """Run one iteration."""
        raise NotImplementedError(f"{type(self).__name__} must define run_step()")

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration and the states of the hooks that have one."""
        state: dict[str, Any] = {"iteration": self.last_iter}
        hooks = {name: hook.state_dict() for name, hook in self.named_hooks().items()}
        hooks = {name: kept for name, kept in hooks.items() if kept}
        if hooks:
            state["hooks"] = hooks
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state; states of hooks that are not registered are ignored with a warning."""
        self.iter = state_dict["iteration"]
        hooks = self.named_hooks()
        for name, kept in state_dict.get("hooks", {}).items():
            if name in hooks:
                hooks[name].load_state_dict(kept)  # type: ignore[attr-defined]
            else:
                logger.warning("The checkpoint has a state of the hook %s, which this trainer lacks.", name)
