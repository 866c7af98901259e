"""Polygons as arrays: area, extent, and rasterization identical to that of the COCO API."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pycocotools.mask as coco_mask
import torch
from torch import Tensor

from detectron2.utils.errors import BadType, BadValue

__all__ = [
    "bounded_polygons",
    "extent",
    "polygon_area",
    "polygons_to_bitmask",
    "rasterize_polygons_within_box",
    "to_polygons",
]

# Rasterizing takes about 40 bytes for each pixel of an outline.
_LONG_OUTLINE = 1 << 20
_LONGEST_OUTLINE = 1 << 24
_FARTHEST = 1e150  # coordinate whose square is still a number
_MARGIN = 64.0  # pixels around the image to which polygons are clipped


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Compute the area of one polygon without self-intersections.

    Args:
        x: [K] x coordinates of the corners.
        y: [K] y coordinates.
    """
    return 0.5 * float(np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def to_polygons(instance: Sequence[object]) -> list[np.ndarray]:
    """Check the polygons of one instance and convert them to flat float64 arrays.

    Raises:
        TypeError: if ``instance`` is not a list.
        ValueError: if a polygon has an odd number of values, or fewer than six.
    """
    if not isinstance(instance, (list, tuple)):
        raise BadType(
            f"the polygons of an instance must be a list of polygons, got {type(instance).__name__}"
        )
    polygons = []
    for polygon in instance:
        if hasattr(polygon, "detach"):
            polygon = polygon.detach().cpu().numpy()
        flat = np.asarray(polygon, dtype=np.float64)
        if flat.ndim != 1 or len(flat) % 2 or len(flat) < 6:
            raise BadValue(
                f"a polygon must be [x0, y0, x1, y1, ...] with 3 or more points, got shape {flat.shape}"
            )
        polygons.append(flat)
    return polygons


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Rasterise the union of polygons.

    Args:
        polygons: flat arrays [x0, y0, x1, y1, ...] in pixels.
        height: of the image.
        width: of the image.

    Returns:
        [height, width] bool.

    Raises:
        ValueError: if a coordinate is not finite, or an outline crosses the image many thousands of times.
    """
    outlines = [_bounded(np.asarray(p, dtype=np.float64), height, width) for p in polygons]
    outlines = [p for p in outlines if len(p) >= 6]
    if not outlines:
        return np.zeros((height, width), dtype=bool)
    runs = coco_mask.frPyObjects(outlines, height, width)
    # The decoder writes column by column; transposing its buffer is the only copy.
    return np.ascontiguousarray(coco_mask.decode(coco_mask.merge(runs)), dtype=bool)


def bounded_polygons(polygons: Sequence[npt.ArrayLike], height: int, width: int) -> list[np.ndarray]:
    """Clip polygons that extend so far outside an image that rasterizing them would exhaust memory.

    Others (practically all) are returned unchanged.

    Raises:
        ValueError: see :func:`polygons_to_bitmask`.
    """
    return [_bounded(np.asarray(p, dtype=np.float64), height, width) for p in polygons]


def _bounded(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    farthest = float(np.abs(polygon).max(initial=0))
    if farthest * polygon.size <= _LONG_OUTLINE:  # no side is longer than twice this coordinate
        return polygon
    if not farthest < _FARTHEST:
        raise BadValue(f"a polygon has coordinates that are not finite: {farthest}")
    if _outline_length(polygon) <= _LONG_OUTLINE:
        return polygon
    clipped = _clip(polygon.reshape(-1, 2), -_MARGIN, -_MARGIN, width + _MARGIN, height + _MARGIN).reshape(-1)
    if _outline_length(clipped) > _LONGEST_OUTLINE:
        raise BadValue(
            f"a polygon of {len(polygon) // 2} points crosses its {height} x {width} image too often"
        )
    return clipped


def _outline_length(polygon: np.ndarray) -> float:
    """Compute the length in pixels of a closed outline, as the number of steps that rasterizing it takes."""
    points = polygon.reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1, initial=0).sum())


def _clip(points: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Clip a polygon [K, 2] to a rectangle, side by side (Sutherland and Hodgman 1974)."""
    for axis, sign, limit in ((0, 1, x0), (1, 1, y0), (0, -1, x1), (1, -1, y1)):
        if len(points) == 0:
            break
        inside = sign * (points[:, axis] - limit)
        kept = []
        for k in range(len(points)):
            a, b = inside[k - 1], inside[k]
            if (a < 0) != (b < 0):
                kept.append(points[k - 1] + (points[k] - points[k - 1]) * (a / (a - b)))
            if b >= 0:
                kept.append(points[k])
        points = np.array(kept).reshape(-1, 2)
    return points


def rasterize_polygons_within_box(polygons: list[np.ndarray], box: np.ndarray, mask_size: int) -> Tensor:
    """Rasterise polygons on a square grid that covers a box.

    Args:
        polygons: flat arrays [x0, y0, x1, y1, ...] in pixels.
        box: [4] XYXY; sides are at least 0.1 pixels.
        mask_size: side of the grid.

    Returns:
        [mask_size, mask_size] bool, on the CPU.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    factor = mask_size / np.maximum([x1 - x0, y1 - y0], 0.1)
    moved = [((p.reshape(-1, 2) - (x0, y0)) * factor).ravel() for p in (np.asarray(q) for q in polygons)]
    return torch.from_numpy(polygons_to_bitmask(moved, mask_size, mask_size))


def extent(polygons: list[np.ndarray]) -> tuple[float, float, float, float]:
    """Return the XYXY box around all points; without points the empty box (inf, inf, 0, 0)."""
    if not polygons:
        return (np.inf, np.inf, 0.0, 0.0)
    points = np.concatenate(polygons).reshape(-1, 2)
    return (*points.min(0), *points.max(0))
