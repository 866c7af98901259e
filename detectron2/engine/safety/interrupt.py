"""Leaving a training in good order when the user or the cluster asks for it."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from detectron2.utils import comm

__all__ = ["InterruptGuard"]

# Ctrl-C reaches a process from the terminal and, a moment later, from torchrun: that is one wish, not two.
_SAME_WISH = 1.0


class InterruptGuard:
    """Notes SIGINT and SIGTERM instead of stopping in the middle of an iteration.

    Active in the main thread. With several processes each notes its own signals, and `agreed` tells all of
    them what one has noted, so that they leave at the same iteration.

    Attributes:
        asked: name of the signal that came to this process; empty if none.
    """

    def __init__(self) -> None:
        self.asked = ""
        self._when = 0.0
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._when > _SAME_WISH:  # the second one means now
            raise KeyboardInterrupt(signal.Signals(number).name)
        self._when = self._when if self.asked else time.monotonic()
        self.asked = self.asked or signal.Signals(number).name

    def agreed(self, iteration: int, period: int) -> str:
        """The signal that makes all processes leave now; empty if none.

        Args:
            iteration: the one that just ended.
            period: iterations between two times at which several processes ask each other.
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
