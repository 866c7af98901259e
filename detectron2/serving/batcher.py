"""Dynamic batching: requests that arrive at about the same time run together."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from detectron2.prediction.backends import Prepared
from detectron2.prediction.batching import batched
from detectron2.structures.types import ModelOutput

__all__ = ["Batcher", "BusyError"]

logger = logging.getLogger(__name__)


class BusyError(RuntimeError):
    """The queue is full, or the service is closing."""


class _Job(NamedTuple):
    picture: Prepared
    answer: Future[ModelOutput]


class Batcher:
    """Runs pictures in one thread, several at once where their shapes are equal.

    Args:
        run: predicts for pictures of equal shape.
        batch_size: pictures in a batch, at most.
        wait: seconds for which the first picture of a batch waits for others.
        queue_size: pictures that may wait.
        ran: is called with the size of each batch, for statistics.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Prepared]], list[ModelOutput]],
        batch_size: int = 8,
        wait: float = 0.005,
        queue_size: int = 256,
        ran: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._run, self._ran = run, ran
        self._batch_size, self._wait = batch_size, wait
        self._waiting: queue.Queue[_Job | None] = queue.Queue(maxsize=queue_size)
        self._open = True
        self._door = threading.Lock()  # nothing is queued after the end
        self._thread = threading.Thread(target=self._serve, name="batcher", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether pictures are taken and answered."""
        return self._open and self._thread.is_alive()

    def submit(self, picture: Prepared) -> Future[ModelOutput]:
        """Queue one picture. A future that is cancelled before its batch begins is not computed.

        Raises:
            BusyError: if the queue is full, or the batcher is closed.
        """
        answer: Future[ModelOutput] = Future()
        with self._door:
            if not self._open:
                raise BusyError("the service is closing")
            try:
                self._waiting.put_nowait(_Job(picture, answer))
            except queue.Full:
                raise BusyError("too many pictures are waiting") from None
        return answer

    def close(self) -> None:
        """Take no more pictures, answer those that were taken, and end the thread."""
        with self._door:
            was_open, self._open = self._open, False
        if was_open:
            self._waiting.put(None)  # waits for room; behind everything that was taken
        self._thread.join()

    def _serve(self) -> None:
        ended = False
        while not ended:
            first = self._waiting.get()
            if first is None:
                return
            jobs = [first]
            deadline = time.monotonic() + self._wait
            while len(jobs) < self._batch_size:
                try:
                    job = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                if job is None:
                    ended = True
                    break
                jobs.append(job)
            self._answer([job for job in jobs if job.answer.set_running_or_notify_cancel()])

    def _answer(self, jobs: list[_Job]) -> None:
        for positions in batched([job.picture.shape for job in jobs], self._batch_size):
            batch = [jobs[k] for k in positions]
            try:
                outputs = self._run([job.picture for job in batch])
            except Exception as error:
                logger.exception("a batch of %d pictures failed", len(batch))
                for job in batch:
                    job.answer.set_exception(error)
                continue
            self._ran(len(batch))
            for job, output in zip(batch, outputs, strict=True):
                job.answer.set_result(output)
