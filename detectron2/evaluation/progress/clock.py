"""Timing of the stages of a loop, and its progress bar."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class StageClock:
    """Measures the total time of named stages of each batch, except the first ``warmup`` batches.

    Args:
        total: expected number of batches, to estimate the remaining time.
        warmup: number of first batches that are not counted (caches, cudnn, worker start).
    """

    def __init__(self, total: int, warmup: int = 0) -> None:
        self.total = total
        self.warmup = max(warmup, 0)
        self.done = 0
        self._stages: dict[str, float] = {}
        self._begin = self._counted_from = self._last = time.perf_counter()

    def start(self) -> None:
        """Start the first lap."""
        self._begin = self._counted_from = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to ``stage``."""
        now = time.perf_counter()
        self._stages[stage] = self._stages.get(stage, 0.0) + now - self._last
        self._last = now

    def next_batch(self) -> None:
        """End a batch."""
        self.done += 1
        if self.done == self.warmup:
            self._stages = dict.fromkeys(self._stages, 0.0)
            self._counted_from = self._last

    @property
    def counted(self) -> int:
        """Number of batches timed so far."""
        return max(self.done - self.warmup, 0)

    def elapsed(self) -> float:
        """Return the seconds from the start to the last lap, warm-up included."""
        return self._last - self._begin

    def seconds_per_batch(self) -> float:
        """Return the mean seconds per counted batch."""
        return (self._last - self._counted_from) / max(self.counted, 1)

    def stage_report(self) -> str:
        """Format the mean seconds per batch of each stage."""
        n = max(self.counted, 1)
        return ", ".join(f"{name} {seconds / n:.4f} s" for name, seconds in self._stages.items())

    def status(self) -> str:
        """Format the times of stages and the remaining time."""
        if not self.counted:
            return "warming up"
        left = datetime.timedelta(seconds=int((self.total - self.done) * self.seconds_per_batch()))
        return f"{self.stage_report()}, {left} left"


class Bar:
    """A progress bar that may be invisible."""

    def __init__(self, progress: Any = None, task: Any = None) -> None:
        self._progress, self._task = progress, task

    @property
    def visible(self) -> bool:
        """Whether anything is drawn."""
        return self._progress is not None

    def advance(self, status: str = "") -> None:
        """Advance by one step, and show ``status`` behind the bar."""
        if self._progress is not None:
            self._progress.update(self._task, advance=1, status=status)


@contextmanager
def progress_bar(total: int, title: str, enabled: bool = True) -> Generator[Bar, None, None]:
    """Show a progress bar if the error stream is a terminal.

    Args:
        total: number of steps.
        title: text before the bar.
        enabled: False for processes that must not show a bar.
    """
    if not (enabled and sys.stderr.isatty()):
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, progress.add_task(title, total=total, status=""))
