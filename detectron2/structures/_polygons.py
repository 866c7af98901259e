"""Polygons as arrays: area, extent, pixels. Pixels are those of the COCO API."""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as coco_mask

__all__ = ["extent", "polygon_area", "polygons_to_bitmask", "rasterize_polygons_within_box", "to_polygons"]


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Area of one polygon that does not cross itself.

    Args:
        x: [K] x coordinates of the corners.
        y: [K] y coordinates.
    """
    return 0.5 * float(np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def to_polygons(instance: Sequence[object]) -> list[np.ndarray]:
    """Check the polygons of one instance and make them flat float64 arrays.

    Raises:
        TypeError: ``instance`` is not a list.
        ValueError: A polygon has an odd count of numbers, or fewer than six.
    """
    if not isinstance(instance, (list, tuple)):
        raise TypeError(
            f"the polygons of an instance must be a list of polygons, got {type(instance).__name__}"
        )
    polygons = []
    for polygon in instance:
        if hasattr(polygon, "detach"):
            polygon = polygon.detach().cpu().numpy()
        flat = np.asarray(polygon, dtype=np.float64)
        if flat.ndim != 1 or len(flat) % 2 or len(flat) < 6:
            raise ValueError(
                f"a polygon must be [x0, y0, x1, y1, ...] with 3 or more points, got shape {flat.shape}"
            )
        polygons.append(flat)
    return polygons


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """The pixels that the union of some polygons covers.

    Args:
        polygons: Flat arrays [x0, y0, x1, y1, ...] in pixels.
        height: Of the image.
        width: Of the image.

    Returns:
        [height, width] bool.
    """
    if len(polygons) == 0:
        return np.zeros((height, width), dtype=bool)
    runs = coco_mask.frPyObjects([np.asarray(p, dtype=np.float64) for p in polygons], height, width)
    # The decoder writes column by column: transposing its buffer once is the only copy.
    return np.ascontiguousarray(coco_mask.decode(coco_mask.merge(runs)), dtype=bool)


def rasterize_polygons_within_box(polygons: list[np.ndarray], box: np.ndarray, mask_size: int) -> np.ndarray:
    """The polygons on a square grid that covers a box.

    Args:
        polygons: Flat arrays [x0, y0, x1, y1, ...] in pixels.
        box: [4] XYXY; sides count as 0.1 pixel at least.
        mask_size: Side of the grid.

    Returns:
        [mask_size, mask_size] bool.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    factor = mask_size / np.maximum([x1 - x0, y1 - y0], 0.1)
    moved = [((p.reshape(-1, 2) - (x0, y0)) * factor).ravel() for p in (np.asarray(q) for q in polygons)]
    return polygons_to_bitmask(moved, mask_size, mask_size)


def extent(polygons: list[np.ndarray]) -> tuple[float, float, float, float]:
    """The XYXY box around all points; without points (inf, inf, 0, 0), which is empty."""
    if not polygons:
        return (np.inf, np.inf, 0.0, 0.0)
    points = np.concatenate(polygons).reshape(-1, 2)
    return (*points.min(0), *points.max(0))
