"""A progress bar."""

from __future__ import annotations

import sys
import time
from typing import Any

from detectron2.utils.errors import BadValue
from detectron2.utils.events import CommonMetricPrinter

from ..train_loop import HookBase
from .basic import PeriodicWriter

__all__ = ["ProgressBar"]


class ProgressBar(HookBase):
    """Shows remaining time, loss, learning rate and data time on a terminal.

    While the bar is shown, the lines of ``CommonMetricPrinter`` go only to the log file. Metrics are read every
    ``period`` iterations, because reading them may wait for the device.

    Args:
        mode: "auto" shows the bar if the output is a terminal, "on" always, "off" never.
        period: iterations between two updates of the metrics.

    Raises:
        ValueError: if ``mode`` is unknown.
    """

    def __init__(self, mode: str = "auto", period: int = 10) -> None:
        if mode not in ("auto", "on", "off"):
            raise BadValue(f"the progress bar's mode must be 'auto', 'on' or 'off', got {mode!r}")
        self._mode = mode
        self._period = period
        self._progress: Any = None
        self._drawn = 0.0

    def before_train(self) -> None:
        terminal = sys.stdout is not None and sys.stdout.isatty()
        if self._mode == "off" or (self._mode == "auto" and not terminal):
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}"),
            refresh_per_second=4,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            "train", total=self.trainer.max_iter, completed=self.trainer.start_iter, figures=""
        )
        self._silence_lines()

    def _silence_lines(self) -> None:
        for hook in self.trainer._hooks:
            if isinstance(hook, PeriodicWriter):
                for writer in hook._writers:
                    if isinstance(writer, CommonMetricPrinter):
                        writer.to_console = False

    def _figures(self) -> str:
        known = self.trainer.storage.histories()
        parts = []
        if "total_loss" in known:
            parts.append(f"loss {known['total_loss'].median(20):.4g}")
        if "lr" in known:
            parts.append(f"lr {known['lr'].latest():.3g}")
        if "data_time" in known:
            parts.append(f"data {known['data_time'].median(20):.3f} s")
        return "  ".join(parts)

    def after_step(self) -> None:
        if self._progress is None:
            return
        done = self.trainer.iter + 1
        if done % self._period == 0 or done - self.trainer.start_iter <= 3:
            self._progress.update(self._task, completed=done, figures=self._figures())
        elif time.monotonic() - self._drawn > 0.2:
            self._progress.update(self._task, completed=done)
        self._drawn = time.monotonic()

    def after_train(self) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=self.trainer.iter)
            self._progress.stop()
            self._progress = None
