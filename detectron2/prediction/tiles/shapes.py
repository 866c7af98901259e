"""How much the shapes of two pieces have in common inside a region: boxes, rotated boxes and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.data.tiles import Tile

from .pieces import Crop, Pieces

__all__ = ["Shape", "corners_of", "extents_of", "intersection", "shape_in"]

Array = npt.NDArray[Any]


class Shape:
    """The part of a piece inside a region.

    Attributes:
        area: in pixels.
        outline: corners ``[K, 2]`` of a convex polygon; None for masks.
        bits: pixels of the region; None for boxes.
    """

    __slots__ = ("area", "bits", "outline")

    def __init__(self, outline: Array | None, bits: npt.NDArray[np.bool_] | None) -> None:
        self.outline, self.bits = outline, bits
        self.area = float(np.count_nonzero(bits)) if bits is not None else _area(outline)


def corners_of(boxes: Array) -> Array:
    """Return the corners ``[N, 4, 2]`` of boxes ``[N, 4]`` XYXY or ``[N, 5]`` (centre, size, degrees counter-clockwise)."""
    if boxes.shape[1] == 4:
        return boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].astype(np.float64)
    center, half = boxes[:, None, :2].astype(np.float64), boxes[:, None, 2:4].astype(np.float64) / 2
    angle = np.deg2rad(boxes[:, 4].astype(np.float64))[:, None]
    x, y = np.moveaxis(half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]), -1, 0)  # [N, 4] each
    # y points down, so that a turn counter-clockwise on the screen has the sines swapped
    return center + np.stack(
        [x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)], -1
    )


def extents_of(pieces: Pieces) -> Array:
    """Return the upright boxes XYXY, ``[N, 4]``, around the shapes of pieces: of the mask where there is one."""
    corners = corners_of(pieces.boxes)
    extents = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).reshape(-1, 4)
    for i, crop in enumerate(pieces.masks or ()):
        if crop.window.width:
            extents[i] = crop.window
    return extents


def shape_in(pieces: Pieces, number: int, region: Tile) -> Shape:
    """Return the part of a piece inside a region; of a piece whose mask is empty, that of its box."""
    crop: Crop | None = None if pieces.masks is None else pieces.masks[number]
    if crop is not None and crop.window.width:
        return Shape(None, crop.within(region))
    return Shape(_clipped(corners_of(pieces.boxes[number : number + 1])[0], _corners_of_tile(region)), None)


def intersection(a: Shape, b: Shape, region: Tile) -> float:
    """Return the area in pixels that two shapes of one region have in common."""
    if a.bits is not None and b.bits is not None:
        return float(np.count_nonzero(a.bits & b.bits))
    if a.outline is not None and b.outline is not None:
        return _area(_clipped(a.outline, b.outline))
    bits, outline = (a.bits, b.outline) if a.bits is not None else (b.bits, a.outline)
    assert bits is not None and outline is not None
    return float(np.count_nonzero(bits & _filled(outline, region)))


def _corners_of_tile(tile: Tile) -> Array:
    return np.array(
        [[tile.x0, tile.y0], [tile.x1, tile.y0], [tile.x1, tile.y1], [tile.x0, tile.y1]], dtype=np.float64
    )


def _filled(outline: Array, region: Tile) -> npt.NDArray[np.bool_]:
    """Pixels of a region whose centres a convex polygon covers."""
    ys, xs = np.mgrid[region.y0 : region.y1, region.x0 : region.x1] + 0.5
    inside = np.full(xs.shape, len(outline) > 2)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0)):
        inside &= (x1 - x0) * (ys - y0) - (y1 - y0) * (xs - x0) >= 0
    return inside


def _area(outline: Array | None) -> float:
    if outline is None or len(outline) < 3:
        return 0.0
    x, y = outline[:, 0], outline[:, 1]
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _clipped(outline: Array, by: Array) -> Array:
    """Intersect two convex polygons ``[K, 2]`` and ``[M, 2]``, both clockwise on the screen, side by side."""
    for (x0, y0), (x1, y1) in zip(by, np.roll(by, -1, axis=0)):
        if not len(outline):
            break
        depth = (x1 - x0) * (outline[:, 1] - y0) - (y1 - y0) * (outline[:, 0] - x0)
        kept = []
        for k in range(len(outline)):
            before, here = depth[k - 1], depth[k]
            if (before < 0) != (here < 0):
                kept.append(outline[k - 1] + (outline[k] - outline[k - 1]) * (before / (before - here)))
            if here >= 0:
                kept.append(outline[k])
        outline = np.array(kept).reshape(-1, 2)
    return outline
