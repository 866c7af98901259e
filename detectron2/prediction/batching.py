"""Streams in order: reading ahead by a bounded queue, and batches of equal shape."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["batched", "in_batches", "read_ahead"]

S = TypeVar("S")
R = TypeVar("R")

_WINDOW = 4  # batches that may wait for pictures of their shape
_POLL = 0.1  # seconds after which a waiting reader looks whether it is still wanted


class _End(NamedTuple):
    error: BaseException | None


def read_ahead(items: Iterable[S], size: int) -> Generator[S, None, None]:
    """Iterate in a thread of its own, at most ``size`` items ahead.

    An error of ``items`` is raised here, behind the items before it. The thread ends when the returned iterator is
    exhausted, closed or dropped.

    Args:
        items: what is iterated in the thread.
        size: items that may wait.
    """
    waiting: queue.Queue[Any] = queue.Queue(maxsize=size)
    unwanted = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, waiting, unwanted), daemon=True, name="read-ahead")
    thread.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        unwanted.set()
        thread.join(timeout=5)  # a read that hangs must not hang the reader, too


def _fill(items: Iterable[Any], waiting: queue.Queue[Any], unwanted: threading.Event) -> None:
    def put(item: object) -> bool:
        while not unwanted.is_set():
            try:
                waiting.put(item, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    iterator = iter(items)
    try:
        for item in iterator:
            if not put(item):
                break
        end = _End(None)
    except BaseException as error:
        end = _End(error)
    finally:
        close = getattr(
            iterator, "close", None
        )  # a generator closes the files it reads here, in its own thread
        if close is not None:
            close()
    put(end)


def batched(shapes: Sequence[Hashable], size: int) -> list[list[int]]:
    """Group positions of equal shape into batches of at most ``size``, in order of their first positions."""
    groups: dict[Hashable, list[int]] = {}
    for position, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(position)
    return [g[k : k + size] for g in groups.values() for k in range(0, len(g), size)]


class _Waiting(Generic[S, R]):
    """An item, and its result once there is one."""

    __slots__ = ("done", "item", "result", "shape")

    def __init__(self, item: S, shape: Hashable) -> None:
        self.item, self.shape, self.done = item, shape, False
        self.result: R


def in_batches(
    items: Iterable[S], shape_of: Callable[[S], Hashable], run: Callable[[list[S]], Sequence[R]], size: int
) -> Iterator[tuple[S, R]]:
    """Run items of equal shape together, and return the results in the order of the items.

    Items are taken only until there is a batch of the oldest one's shape, or until four batches wait; so results of a
    live stream are not held back, and memory is bounded.

    Args:
        items: a stream.
        shape_of: items of equal shape may run together.
        run: maps a batch to its results.
        size: items in a batch, at most.

    Yields:
        Each item with its result.
    """
    stream = iter(items)
    line: deque[_Waiting[S, R]] = deque()
    ended = False
    while True:
        while line and line[0].done:
            first = line.popleft()
            yield first.item, first.result
        while not ended and not _enough(line, size):
            try:
                item = next(stream)
            except StopIteration:
                ended = True
                break
            line.append(_Waiting(item, shape_of(item)))
        if not line:
            return
        batch = [w for w in line if not w.done and w.shape == line[0].shape][:size]
        for waiting, result in zip(batch, run([w.item for w in batch])):
            waiting.result, waiting.done = result, True


def _enough(line: deque[_Waiting[S, R]], size: int) -> bool:
    """Return whether there is a whole batch of the oldest item's shape, or no room for more items."""
    if not line:
        return False
    return len(line) >= _WINDOW * size or sum(w.shape == line[0].shape and not w.done for w in line) >= size
