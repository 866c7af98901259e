"""One endless stream made of several that are read side by side, so that its order depends on no number of readers."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Generic, NamedTuple, TypeVar

from .stream import worker_share

__all__ = ["Lane", "Turn", "turns"]

T = TypeVar("T")


class Lane(Generic[T]):
    """Part of a stream, whose elements are read in order and forgotten once passed.

    Args:
        elements: an endless iterator.
    """

    def __init__(self, elements: Iterator[T]) -> None:
        self._elements = elements
        self._ahead: deque[T] = deque()
        self._number = 0

    def go_to(self, number: int) -> None:
        """Pass the elements before ``number``."""
        for _ in range(self._number, number):
            if self._ahead:
                self._ahead.popleft()
            else:
                next(self._elements)
        self._number = number

    def __iter__(self) -> Iterator[T]:
        """Yield the present element and those that follow; looking at them does not pass them."""
        for step in itertools.count():
            if step == len(self._ahead):
                self._ahead.append(next(self._elements))
            yield self._ahead[step]


class Turn(NamedTuple, Generic[T]):
    """A sample that this reader has to read.

    Attributes:
        position: in the stream of this rank.
        whole: position in the stream of all ranks.
        elements: the sample, and those that follow in its lane, in case it cannot be used.
    """

    position: int
    whole: int
    elements: Iterator[T]


def turns(
    open_lane: Callable[[int], Iterator[T]],
    num_lanes: int,
    place: tuple[int, int],
    first: int,
    waiting: Collection[int],
) -> Iterator[Turn[T]]:
    """Yield the samples of this reader: one rank, and one of its workers.

    Sample p of the whole stream is sample ``p // num_lanes`` of lane ``p % num_lanes``. It belongs to rank ``p % world``,
    whose workers take turns. A reader opens the lanes that have samples of its own: one in g, g being the greatest common
    divisor of the numbers of lanes and of readers (ranks times workers).

    Args:
        open_lane: returns the endless elements of a lane.
        num_lanes: number of lanes.
        place: this rank and the number of ranks.
        first: position in the stream of this rank to begin at.
        waiting: earlier positions to read as well, before.
    """
    rank, world = place
    lanes: dict[int, Lane[T]] = {}
    for position in worker_share(itertools.chain(sorted(waiting), itertools.count(first)), 1):
        whole = position * world + rank
        number = whole % num_lanes
        if number not in lanes:
            lanes[number] = Lane(open_lane(number))
        lanes[number].go_to(whole // num_lanes)
        yield Turn(position, whole, iter(lanes[number]))
