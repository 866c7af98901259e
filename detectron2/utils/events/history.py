"""Values of one metric over time."""

from __future__ import annotations

import statistics
from collections import deque
from itertools import islice

from ..errors import BadValue

__all__ = ["HistoryBuffer"]


class HistoryBuffer:
    """A series of (value, iteration) pairs with cheap windowed statistics.

    Args:
        max_length: how many pairs to keep; older ones fall out, but ``global_avg`` still counts them.
    """

    def __init__(self, max_length: int = 1_000_000) -> None:
        if max_length < 1:
            raise BadValue(f"max_length must be at least 1, got {max_length}")
        self._pairs: deque[tuple[float, float]] = deque(maxlen=max_length)
        self._count = 0
        self._sum = 0.0

    def update(self, value: float, iteration: float | None = None) -> None:
        """Adds a value; without an iteration it gets the number of values before it."""
        self._pairs.append((value, self._count if iteration is None else iteration))
        self._count += 1
        self._sum += value

    def _last(self, window_size: int) -> list[float]:
        if not self._pairs:
            raise BadValue("this history is empty: no value has been put yet")
        return [value for value, _ in islice(reversed(self._pairs), max(window_size, 1))]

    def latest(self) -> float:
        """The newest value."""
        return self._last(1)[0]

    def median(self, window_size: int) -> float:
        """Median of the newest ``window_size`` values; not a number when one of them is not."""
        values = self._last(window_size)
        return float("nan") if any(v != v for v in values) else float(statistics.median(values))

    def avg(self, window_size: int) -> float:
        """Mean of the newest ``window_size`` values."""
        values = self._last(window_size)
        return sum(values) / len(values)

    def global_avg(self) -> float:
        """Mean of all values ever put."""
        if not self._count:
            raise BadValue("this history is empty: no value has been put yet")
        return self._sum / self._count

    def values(self) -> list[tuple[float, float]]:
        """All kept (value, iteration) pairs, oldest first."""
        return list(self._pairs)

    def count_since(self, iteration: float) -> int:
        """How many of the newest values lie behind ``iteration`` without a gap."""
        count = 0
        for _, when in reversed(self._pairs):
            if when <= iteration:
                break
            count += 1
        return count
