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
            self._mask = array > 0.5 if array.dtype.kind == "f" else array != 0

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
        ys, xs = np.nonzero(self.mask)
        if not len(xs):
            return np.zeros(4)
        return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], dtype=np.float64)


def edge_pixels(mask: Mask, width: int = 1) -> Mask:
    """Find the pixels of a mask that lie within ``width`` pixels of its outline (4-neighbours)."""
    core = np.asarray(mask, dtype=bool)
    for _ in range(width):
        p = np.pad(core, 1, mode="edge")
        core = core & p[:-2, 1:-1] & p[2:, 1:-1] & p[1:-1, :-2] & p[1:-1, 2:]
    return np.asarray(mask, dtype=bool) & ~core


def label_point(mask: Mask) -> tuple[float, float] | None:
    """Find a point (x, y) in the middle of a mask and inside it; None for an empty one."""
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return None
    middle_x, middle_y = np.median(xs), np.median(ys)
    nearest = int(np.argmin((xs - middle_x) ** 2 + (ys - middle_y) ** 2))
    return float(xs[nearest]) + 0.5, float(ys[nearest]) + 0.5
