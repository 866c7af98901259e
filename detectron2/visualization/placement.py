"""Places for labels: beside their objects, inside the picture, and never on one another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["TakenPlaces", "spots_around"]


class TakenPlaces:
    """The rectangles of a picture that labels have taken.

    Attributes:
        width, height: size of the picture in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        """
        Args:
            width: of the picture.
            height: of the picture.
        """
        self.width, self.height = width, height
        self._taken = np.zeros((64, 4))
        self._count = 0

    def take(self, left: float, top: float, size: tuple[int, int]) -> None:
        """Mark a rectangle as taken.

        Args:
            left: its left edge.
            top: its upper edge.
            size: its width and height.
        """
        if self._count == len(self._taken):
            self._taken = np.concatenate([self._taken, np.zeros_like(self._taken)])
        self._taken[self._count] = (left, top, left + size[0], top + size[1])
        self._count += 1

    def clamp(self, left: float, top: float, size: tuple[int, int]) -> tuple[int, int]:
        """Move a rectangle into the picture, as far as it fits."""
        x = min(max(round(left), 0), max(self.width - size[0], 0))
        y = min(max(round(top), 0), max(self.height - size[1], 0))
        return x, y

    def find(self, spots: npt.ArrayLike, size: tuple[int, int]) -> tuple[int, int] | None:
        """Return the first of several places at which a rectangle is free, moved into the picture.

        Args:
            spots: ``[N, 2]``, upper left corners (x, y), best first.
            size: width and height of the rectangle.
        """
        room = np.maximum(np.array([self.width, self.height]) - size, 0)
        corners = np.clip(np.rint(np.asarray(spots, dtype=np.float64).reshape(-1, 2)), 0, room)  # [N, 2]
        left, top = corners[:, :1], corners[:, 1:]
        x0, y0, x1, y1 = self._taken[: self._count].T
        # [N, taken]
        apart = (x0 >= left + size[0]) | (x1 <= left) | (y0 >= top + size[1]) | (y1 <= top)
        free = np.flatnonzero(apart.all(axis=1))
        return (int(left[free[0], 0]), int(top[free[0], 0])) if len(free) else None


def spots_around(
    frame: npt.NDArray[np.float64], size: tuple[int, int], small: bool
) -> list[tuple[float, float]]:
    """List upper left corners for the label of a box, the best first.

    A large object carries its label inside, in a corner; a small one has it outside, so that it stays visible.

    Args:
        frame: XYXY of the object in pixels of the output.
        size: width and height of the label.
        small: whether the object is small.
    """
    (x0, y0, x1, y1), (w, h) = frame.tolist(), size
    inside = [(x0, y0), (x1 - w, y0), (x0, y1 - h), (x1 - w, y1 - h)]
    outside = [
        (x0, y1),
        (x0, y0 - h),
        (x1, y0),
        (x0 - w, y0),
        (x1 - w, y1),
        (x1 - w, y0 - h),
        (x1, y1 - h),
        (x0 - w, y1 - h),
    ]
    middle = [((x0 + x1 - w) / 2, y0 + (y1 - y0) * share) for share in (0.25, 0.5, 0.75)]
    return [*outside, *inside, *middle] if small else [inside[0], outside[1], *inside[1:], *middle, *outside]
