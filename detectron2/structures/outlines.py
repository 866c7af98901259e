"""Outlines of masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["mask_polygons", "trace_outlines"]

Mask = npt.NDArray[np.bool_]
# steps along pixel edges: right, down, left, up
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def trace_outlines(mask: Mask) -> list[tuple[npt.NDArray[np.float64], bool]]:
    """Trace the outlines of a mask along the edges of its pixels.

    Pixels that touch only at a corner belong to different outlines.

    Args:
        mask: ``[H, W]``.

    Returns:
        For each outline its corners ``[N, 2]`` (x, y) and whether it surrounds a hole.
    """
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    edges = _directed_edges(padded)
    outlines = []
    while edges:
        (x, y), turns = next(iter(edges.items()))
        direction = turns[0]
        corners: list[tuple[int, int]] = []
        while True:
            found = edges.get((x, y))
            if not found:
                break
            # at a corner shared by two outlines, turn right to stay with the same pixel
            turn = next(
                (d for d in ((direction + 1) % 4, direction, (direction + 3) % 4) if d in found), found[0]
            )
            found.remove(turn)
            if not found:
                del edges[(x, y)]
            if turn != direction or not corners:
                corners.append((x, y))
            direction = turn
            x, y = x + _STEPS[turn][0], y + _STEPS[turn][1]
        outline = np.array(corners, dtype=np.float64)
        outlines.append((outline, _signed_area(outline) < 0))
    return outlines


def _directed_edges(padded: Mask) -> dict[tuple[int, int], list[int]]:
    """Find the edges between inside and outside, by the corner where they start; the inside is on their right."""
    edges: dict[tuple[int, int], list[int]] = {}
    inside = padded[1:-1, 1:-1]
    borders = (
        (inside & ~padded[:-2, 1:-1], 0, 0, 0),  # upper edge, walked to the right
        (inside & ~padded[1:-1, 2:], 1, 0, 1),  # right edge, downwards
        (inside & ~padded[2:, 1:-1], 1, 1, 2),  # lower edge, to the left
        (inside & ~padded[1:-1, :-2], 0, 1, 3),  # left edge, upwards
    )
    for border, dx, dy, direction in borders:
        ys, xs = np.nonzero(border)
        for x, y in zip((xs + dx).tolist(), (ys + dy).tolist()):
            edges.setdefault((x, y), []).append(direction)
    return edges


def _signed_area(polygon: npt.NDArray[np.float64]) -> float:
    """Compute the area by the shoelace formula; positive if the corners are in clockwise order on the screen."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(0.5 * (np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def mask_polygons(mask: Mask) -> list[list[float]]:
    """Return the outer outlines of a mask as COCO polygons ``[x0, y0, x1, y1, ...]``, which have no holes.

    Args:
        mask: ``[H, W]``.
    """
    return [outline.reshape(-1).tolist() for outline, hole in trace_outlines(mask) if not hole]
