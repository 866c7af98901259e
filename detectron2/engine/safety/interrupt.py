"""Stopping training cleanly after a signal from the user or the cluster."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeAlias

from detectron2.utils import comm

__all__ = ["InterruptGuard"]

# Seconds within which signals count as one request: Ctrl-C arrives from the terminal and, a moment later, from torchrun.
_SAME_REQUEST = 1.0


_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None


class InterruptGuard:
    """Records SIGINT and SIGTERM instead of stopping in the middle of an iteration.

    It is active only in the main thread. Each of several processes records its own signals, and ``agreed`` shares them,
    so that all stop after the same iteration.

    Attributes:
        asked: name of the signal that this process has received; empty if none.
    """

    def __init__(self) -> None:
        self.asked = ""
        self._when = 0.0
        self._before: dict[int, _Handler] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._when > _SAME_REQUEST:  # a second request stops at once
            raise KeyboardInterrupt(signal.Signals(number).name)
        self._when = self._when if self.asked else time.monotonic()
        self.asked = self.asked or signal.Signals(number).name

    def agreed(self, iteration: int, period: int) -> str:
        """Return the signal for which all processes stop now; empty if none.

        Args:
            iteration: the iteration that just ended.
            period: iterations between two exchanges of several processes.
        """
        if comm.get_world_size() == 1:
            return self.asked
        if (iteration + 1) % max(period, 1):
            return ""
        return next((name for name in comm.all_gather(self.asked) if name), "")

    def __enter__(self) -> InterruptGuard:
        self.asked = ""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
