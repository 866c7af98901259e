"""Hooks that call functions, measure time and memory, and write metrics."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from detectron2.utils.errors import BadType
from detectron2.utils.events import EventWriter

from ..train_loop import HookBase
from .periodic import PeriodicHook

__all__ = ["CallbackHook", "IterationTimer", "PeriodicWriter", "TorchMemoryStats"]

logger = logging.getLogger("detectron2.engine.hooks")

Callback = Callable[[Any], object]


class CallbackHook(HookBase):
    """Calls functions with the trainer.

    Args:
        before_train: called before training.
        after_train: called after training.
        before_step: called before each iteration.
        after_step: called after each iteration.
    """

    def __init__(
        self,
        *,
        before_train: Callback | None = None,
        after_train: Callback | None = None,
        before_step: Callback | None = None,
        after_step: Callback | None = None,
    ) -> None:
        self._before_train = before_train
        self._after_train = after_train
        self._before_step = before_step
        self._after_step = after_step

    def before_train(self) -> None:
        if self._before_train is not None:
            self._before_train(self.trainer)

    def after_train(self) -> None:
        if self._after_train is not None:
            self._after_train(self.trainer)
        # Functions may hold the trainer; releasing them lets memory be freed.
        self._before_train = self._after_train = self._before_step = self._after_step = None

    def before_step(self) -> None:
        if self._before_step is not None:
            self._before_step(self.trainer)

    def after_step(self) -> None:
        if self._after_step is not None:
            self._after_step(self.trainer)


class IterationTimer(HookBase):
    """Stores the seconds of each iteration as ``time``, and logs their sum at the end.

    Register it first: it measures only what runs between its ``before_step`` and its ``after_step``.

    Args:
        warmup_iter: number of the first iteration to time, counted from 1; those before it are slower.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter
        self._began = self._step_began = time.perf_counter()
        self._in_steps = 0.0
        self._steps = 0

    def before_train(self) -> None:
        self._began = time.perf_counter()
        self._in_steps = 0.0
        self._steps = 0

    def before_step(self) -> None:
        self._step_began = time.perf_counter()

    def after_step(self) -> None:
        seconds = time.perf_counter() - self._step_began
        if self.trainer.iter - self.trainer.start_iter + 1 >= self._warmup_iter:
            self._in_steps += seconds
            self._steps += 1
            self.trainer.storage.put_scalars(time=seconds)

    def after_train(self) -> None:
        if self._steps < 1:
            return
        total = time.perf_counter() - self._began
        logger.info(
            "Training took %s: %d timed iterations at %.4f s each, and %s in hooks and start-up.",
            datetime.timedelta(seconds=int(total)),
            self._steps,
            self._in_steps / self._steps,
            datetime.timedelta(seconds=int(total - self._in_steps)),
        )


class PeriodicWriter(PeriodicHook):
    """Calls writers every few iterations and at the end.

    Args:
        writers: the writers.
        period: iterations between two calls.
    """

    last_run = "after_step"

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        super().__init__(period)
        for writer in writers:
            if not isinstance(writer, EventWriter):
                raise BadType(f"a writer must be an EventWriter, got {type(writer).__name__}")
        self._writers = writers

    def run(self) -> None:
        for writer in self._writers:
            writer.write()

    def after_train(self) -> None:
        # Earlier hooks may have stored metrics in their after_train.
        for writer in self._writers:
            writer.write()
            writer.close()


class TorchMemoryStats(PeriodicHook):
    """Logs how much device memory is reserved and in use; does nothing without CUDA.

    Args:
        period: iterations between two messages.
        max_runs: largest number of messages.
    """

    last_run = "after_step"

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        super().__init__(period)
        self._left = max_runs

    def run(self) -> None:
        if self._left <= 0 or not torch.cuda.is_available():
            return
        self._left -= 1
        figures = {
            "reserved": torch.cuda.memory_reserved(),
            "most reserved": torch.cuda.max_memory_reserved(),
            "in use": torch.cuda.memory_allocated(),
            "most in use": torch.cuda.max_memory_allocated(),
        }
        text = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in figures.items())
        logger.info("Iteration %d, device memory: %s", self.trainer.iter, text)
        torch.cuda.reset_peak_memory_stats()
