"""A grid of overlapping tiles that covers an image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from detectron2.utils.errors import BadValue

__all__ = ["Tile", "tile_grid"]

_MOST_OVERLAP = 0.9


class Tile(NamedTuple):
    """A window of an image, in whole pixels: columns ``[x0, x1)`` and rows ``[y0, y1)``."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Rows."""
        return self.y1 - self.y0

    def shared(self, other: Tile) -> Tile:
        """Return the window that two tiles have in common; without one, its width or height is 0 or negative."""
        return Tile(
            max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1)
        )


def tile_grid(height: int, width: int, tile: int, overlap: float) -> list[Tile]:
    """Cover an image with tiles of one size, row by row.

    Neighbours share at least the wanted overlap. The tiles are spread evenly, so that the last row and column overlap
    no more than the others.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        tile: side of a tile in pixels; along a shorter side of the image the tiles are as long as that side.
        overlap: share of a tile's side that neighbours have in common, in [0, 0.9].

    Raises:
        ValueError: if a number is out of range.
    """
    if tile < 1:
        raise BadValue(f"the side of a tile must be at least 1 pixel, got {tile}")
    if not 0 <= overlap <= _MOST_OVERLAP:
        raise BadValue(
            f"overlap, the share of a tile that its neighbour has too, must lie in [0, 0.9], got {overlap}"
        )
    if height < 1 or width < 1:
        raise BadValue(f"an image must have pixels, got {width} x {height}")
    rows, columns = _starts(height, tile, overlap), _starts(width, tile, overlap)
    h, w = min(tile, height), min(tile, width)
    return [Tile(x, y, x + w, y + h) for y in rows for x in columns]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return the first pixel of each tile along one side."""
    if length <= tile:
        return [0]
    step = max(tile - math.ceil(tile * overlap), 1)
    count = math.ceil((length - tile) / step) + 1
    # Rounding can put two neighbours one pixel farther apart than `step`; one more tile prevents that.
    starts = np.linspace(0, length - tile, count).round().astype(int)
    if np.diff(starts).max() > step:
        starts = np.linspace(0, length - tile, count + 1).round().astype(int)
    return [int(v) for v in starts]
