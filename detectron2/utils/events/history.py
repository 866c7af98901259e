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
        max_length: number of pairs to keep; older ones are dropped, but still count in ``global_avg``.
    """

    def __init__(self, max_length: int = 1_000_000) -> None:
        if max_length < 1:
            raise BadValue(f"max_length must be at least 1, got {max_length}")
        self._pairs: deque[tuple[float, float]] = deque(maxlen=max_length)
        self._count = 0
        self._sum = 0.0

    def update(self, value: float, iteration: float | None = None) -> None:
        """Append a value; its iteration defaults to the number of earlier values."""
        self._pairs.append((value, self._count if iteration is None else iteration))
        self._count += 1
        self._sum += value

    def _last(self, window_size: int) -> list[float]:
        if not self._pairs:
            raise BadValue("this history is empty: no value has been added yet")
        return [value for value, _ in islice(reversed(self._pairs), max(window_size, 1))]

    def latest(self) -> float:
        """Return the newest value."""
        return self._last(1)[0]

    def median(self, window_size: int) -> float:
        """Return the median of the newest ``window_size`` values; NaN if one of them is NaN."""
        values = self._last(window_size)
        return float("nan") if any(v != v for v in values) else float(statistics.median(values))

    def avg(self, window_size: int) -> float:
        """Return the mean of the newest ``window_size`` values."""
        values = self._last(window_size)
        return sum(values) / len(values)

    def global_avg(self) -> float:
        """Return the mean of all values ever added."""
        if not self._count:
            raise BadValue("this history is empty: no value has been added yet")
        return self._sum / self._count

    def values(self) -> list[tuple[float, float]]:
        """Return all kept (value, iteration) pairs, oldest first."""
        return list(self._pairs)

    def count_since(self, iteration: float) -> int:
        """Count the trailing values newer than ``iteration``."""
        count = 0
        for _, when in reversed(self._pairs):
            if when <= iteration:
                break
            count += 1
        return count
