"""Leaving a training in good order when the user or the cluster asks for it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from detectron2.utils import comm

__all__ = ["InterruptGuard"]


class InterruptGuard:
    """Notes SIGINT and SIGTERM instead of stopping in the middle of an iteration.

    Active in the main thread of a run with one process. With several, each process would stop at
    an iteration of its own and the others would wait for it in vain, so the signals keep their
    usual effect there.

    Attributes:
        asked: name of the signal that came; empty if none.
    """

    def __init__(self) -> None:
        self.asked = ""
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:  # the second one means now
            raise KeyboardInterrupt(signal.Signals(number).name)
        self.asked = signal.Signals(number).name

    def __enter__(self) -> InterruptGuard:
        self.asked = ""
        if comm.get_world_size() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
