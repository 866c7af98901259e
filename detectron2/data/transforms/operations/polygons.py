"""Clip polygons to a rectangle."""

from __future__ import annotations

import numpy as np

__all__ = ["clip_polygon"]

_MIN_AREA = 1e-9  # smaller pieces (in square pixels) are lines or points


def clip_polygon(polygon: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> list[np.ndarray]:
    """Clip a polygon to a rectangle; a concave one may yield several pieces.

    Args:
        polygon: array (N, 2) of (x, y), without a repeated last corner.
        x0: left edge of the rectangle.
        y0: upper edge.
        x1: right edge.
        y1: lower edge.

    Returns:
        The pieces with a positive area, each an array (M, 2), M >= 3; possibly none.
    """
    pieces = [np.asarray(polygon, dtype=np.float64)]
    for axis, bound, sign in ((0, x0, 1.0), (1, y0, 1.0), (0, x1, -1.0), (1, y1, -1.0)):
        pieces = [part for piece in pieces for part in _cut(piece, axis, bound, sign)]
    return [piece for piece in pieces if _area(piece) > _MIN_AREA]


def _area(polygon: np.ndarray) -> float:
    if len(polygon) < 3:
        return 0.0
    x, y = (polygon - polygon[0]).T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _cut(polygon: np.ndarray, axis: int, bound: float, sign: float) -> list[np.ndarray]:
    """Keep the part of a polygon on one side of the line ``coordinate[axis] == bound``."""
    if len(polygon) < 3:
        return []
    depth = sign * (polygon[:, axis] - bound)
    inside = depth >= 0
    if inside.all():
        return [polygon]
    if not inside.any():
        return []
    return _join(_runs(polygon, depth, inside, axis, bound), 1 - axis)


def _runs(
    polygon: np.ndarray, depth: np.ndarray, inside: np.ndarray, axis: int, bound: float
) -> list[np.ndarray]:
    """Return the parts of the outline inside the half-plane, each from entry to exit on the line."""
    count = len(polygon)

    def crossing(i: int, j: int) -> np.ndarray:
        point = polygon[i] + (polygon[j] - polygon[i]) * (depth[i] / (depth[i] - depth[j]))
        point[axis] = bound
        return point

    runs = []
    for start in np.flatnonzero(inside & ~np.roll(inside, 1)).tolist():
        points, i = [crossing(start - 1, start)], start
        while inside[i]:
            points.append(polygon[i])
            i = (i + 1) % count
        points.append(crossing(i - 1, i))
        runs.append(np.stack(points))
    return runs


def _join(runs: list[np.ndarray], along: int) -> list[np.ndarray]:
    """Close the runs along the cutting line into polygons.

    Sorted along the line, crossings alternate between entering and leaving the polygon, so that the first belongs to
    the second, the third to the fourth, and so on. If the outline intersects itself, two exits may be adjacent; then
    the runs are closed in the order of the outline, as in the Sutherland-Hodgman algorithm.
    """
    ends = [(run[k][along], index, k) for index, run in enumerate(runs) for k in (0, -1)]
    ends.sort(key=lambda end: end[0])
    follows: dict[int, int] = {}
    for (_, first, k), (_, second, m) in zip(ends[::2], ends[1::2]):
        if k == m:
            return [np.concatenate(runs)]
        leaving, entering = (first, second) if k == -1 else (second, first)
        follows[leaving] = entering
    polygons, todo = [], set(range(len(runs)))
    while todo:
        ring, index = [], min(todo)
        while index in todo:
            todo.remove(index)
            ring.append(runs[index])
            index = follows[index]
        polygons.append(np.concatenate(ring))
    return polygons
