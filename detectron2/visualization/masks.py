"""Masks in whatever form they come, as pixels and as polygons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.structures.outlines import trace_outlines
from detectron2.structures.rle import decode, to_mask
from detectron2.utils.errors import BadValue

Mask = npt.NDArray[np.bool_]
_SAMPLES = 64  # a place for a label is looked for among so many rows and columns


class GenericMask:
    """A mask given as polygons, RLE or pixels, readable as either polygons or pixels.

    Attributes:
        height, width: size of the image.
    """

    def __init__(self, mask_or_polygons: object, height: int, width: int) -> None:
        """
        Args:
            mask_or_polygons: list of flat polygons ``[x0, y0, x1, y1, ...]``, an RLE dict, or ``[H, W]`` pixels.
            height: of the image.
            width: of the image.
        """
        self.height, self.width = height, width
        self._mask: Mask | None = None
        self._polygons: list[npt.NDArray[np.float64]] | None = None
        self._has_holes: bool | None = None
        if isinstance(mask_or_polygons, Mapping):
            self._mask = decode(mask_or_polygons, (height, width))
        elif isinstance(mask_or_polygons, (list, tuple)):
            self._polygons = [np.asarray(p, dtype=np.float64).reshape(-1) for p in mask_or_polygons]
            self._has_holes = False
        else:
            array = np.asarray(mask_or_polygons)
            if array.shape != (height, width):
                raise BadValue(f"mask must be [{height}, {width}] like the image, got {list(array.shape)}")
            if array.dtype != np.bool_:
                array = array > 0.5 if array.dtype.kind == "f" else array != 0
            self._mask = array

    @property
    def mask(self) -> Mask:
        """Pixels, bool ``[height, width]``."""
        if self._mask is None:
            self._mask = self.polygons_to_mask(self._polygons or [])
        return self._mask

    @property
    def polygons(self) -> list[npt.NDArray[np.float64]]:
        """Outlines, those of holes included, as flat arrays ``[x0, y0, x1, y1, ...]``."""
        if self._polygons is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self.mask)
        return self._polygons

    @property
    def has_holes(self) -> bool:
        """Whether the mask encloses pixels that are not part of it."""
        if self._has_holes is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self.mask)
        return self._has_holes

    def mask_to_polygons(self, mask: Mask) -> tuple[list[npt.NDArray[np.float64]], bool]:
        """Trace all outlines of a mask, and find out whether some surround holes, which filled polygons cannot show."""
        outlines = trace_outlines(mask)
        return [o.reshape(-1) for o, _ in outlines], any(hole for _, hole in outlines)

    def polygons_to_mask(self, polygons: Iterable[Any]) -> Mask:
        """Rasterise the union of polygons."""
        return to_mask(list(polygons), self.height, self.width)

    def area(self) -> int:
        """Return the number of pixels."""
        return int(self.mask.sum())

    def bbox(self) -> npt.NDArray[np.float64]:
        """Tight box XYXY of the pixels; zeros for an empty mask."""
        return np.array(bounds(self.mask), dtype=np.float64)


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Return the tight box XYXY of a mask ``[H, W]``; zeros for an empty one."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return 0, 0, 0, 0
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    return int(columns[0]), top, int(columns[-1]) + 1, bottom


def edge_pixels(mask: Mask, width: int = 1) -> Mask:
    """Find the pixels of a mask that lie within ``width`` pixels of its outline.

    Distances are those of an octagon: steps to the four neighbours and to all eight take turns.
    """
    inside = np.asarray(mask, dtype=bool)
    p = np.pad(inside, 1, mode="edge")
    core = p[1:-1, 1:-1]
    for step in range(width):
        # the border of the array counts as its outermost pixels continued
        p[0], p[-1], p[:, 0], p[:, -1] = p[1], p[-2], p[:, 1], p[:, -2]
        across = p[:, :-2] & p[:, 1:-1] & p[:, 2:]  # [H + 2, W]
        if step % 2:
            core[:] = across[:-2] & across[1:-1] & across[2:]
        else:
            core[:] = across[1:-1] & p[:-2, 1:-1] & p[2:, 1:-1]
    return inside & ~core


def label_points(mask: Mask, count: int = 12) -> npt.NDArray[np.float64]:
    """Choose points (x, y) of a mask for its label: the one nearest to the middle first, then some around it.

    Args:
        mask: ``[H, W]``.
        count: how many points at most.

    Returns:
        ``[N, 2]``; no point for an empty mask.
    """
    left, top, right, bottom = bounds(mask)
    step = max(int(max(bottom - top, right - left) / _SAMPLES), 1)
    ys, xs = np.nonzero(mask[top:bottom:step, left:right:step])
    if not len(xs):
        step = 1
        ys, xs = np.nonzero(mask[top:bottom, left:right])
    if not len(xs):
        return np.zeros((0, 2))
    points = np.stack([xs * step + left, ys * step + top], axis=1).astype(np.float64) + 0.5
    inside = mask[top:bottom:step, left:right:step]
    away = np.hypot(*(points - np.median(points, axis=0)).T) / step
    worth = _depth(inside)[ys, xs] - 0.25 * away  # deep inside, and near the middle
    chosen = [int(np.argmax(worth))]
    apart = np.full(len(points), np.inf)
    for _ in range(min(count, len(points)) - 1):  # each further one also far from those before
        apart = np.minimum(apart, np.hypot(*(points - points[chosen[-1]]).T) / step)
        chosen.append(int(np.argmax(worth + apart)))
    return points[list(dict.fromkeys(chosen))]


def _depth(mask: Mask) -> npt.NDArray[np.int64]:
    """Count the steps from each pixel of a small mask to the nearest one outside of it."""
    inside = np.pad(mask, 1)
    depth = np.zeros(inside.shape, dtype=np.int64)
    while inside.any():
        depth += inside
        inside = inside & ~edge_pixels(inside)
    return depth[1:-1, 1:-1]
