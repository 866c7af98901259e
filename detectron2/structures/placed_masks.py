"""Masks in windows of an image that is too large for bitmaps: moved, joined and read as run-length encodings."""

# Legend: R runs of a mask.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.utils.errors import BadValue

from .rle import encode_runs, run_lengths

__all__ = ["decode_window", "join_placed", "sample_window"]

IntArray = npt.NDArray[np.int64]
_MOST_PIXELS = (1 << 31) - 1  # that runs of 32 bits can count


def decode_window(rle: Mapping[str, Any], x0: int, y0: int, x1: int, y1: int) -> npt.NDArray[np.bool_]:
    """Decode columns ``[x0, x1)`` and rows ``[y0, y1)`` of an encoding.

    Returns:
        bool ``[y1 - y0, x1 - x0]``.
    """
    return sample_window(rle, np.arange(x0, x1), np.arange(y0, y1))


def sample_window(rle: Mapping[str, Any], columns: IntArray, rows: IntArray) -> npt.NDArray[np.bool_]:
    """Decode some columns ``[C]`` and rows ``[R]`` of an encoding, bool ``[R, C]``."""
    ends = np.cumsum(run_lengths(rle))
    places = columns[None, :] * int(rle["size"][0]) + rows[:, None]
    return np.searchsorted(ends, places, side="right") % 2 == 1


def join_placed(
    masks: Sequence[Mapping[str, Any]], corners: Sequence[tuple[int, int]], size: tuple[int, int]
) -> dict[str, Any]:
    """Encode the union of masks that lie in windows of an image.

    Args:
        masks: encodings of the windows; all outside of them is background.
        corners: column and row of the image where each window begins.
        size: (height, width) of the image, of less than 2^31 pixels.

    Returns:
        The encoding of the image, with ``counts`` as text.

    Raises:
        ValueError: if the image is larger, or a window leaves it.
    """
    height, width = size
    if height * width > _MOST_PIXELS:
        raise BadValue(
            f"COCO's run-length encoding holds less than 2^31 pixels, got an image of {height} x {width}"
        )
    for (x, y), mask in zip(corners, masks):
        h, w = mask["size"]
        if x < 0 or y < 0 or x + w > width or y + h > height:
            raise BadValue(f"a window of {h} x {w} pixels at {(x, y)} leaves its image of {height} x {width}")
    moved = [_moved(mask, corner, height) for mask, corner in zip(masks, corners)]
    start = np.concatenate([np.zeros(0, np.int64), *(s for s, _ in moved)])
    stop = np.concatenate([np.zeros(0, np.int64), *(e for _, e in moved)])
    start, stop = _union(start, stop)
    encoded = encode_runs(start, stop, np.zeros(len(start), dtype=np.int64), 1, size)
    return {"size": list(size), "counts": encoded.counts[0].decode("ascii")}


def _moved(mask: Mapping[str, Any], corner: tuple[int, int], height: int) -> tuple[IntArray, IntArray]:
    """Return the runs of a window as positions in an image: starts and stops, ``[R]`` each, cut at the ends of columns."""
    ends = np.cumsum(run_lengths(mask))
    count = len(ends) // 2
    start, stop = ends[0 : 2 * count : 2], ends[1 : 2 * count : 2]
    start, stop = start[stop > start], stop[stop > start]
    rows = int(mask["size"][0])
    first, last = start // max(rows, 1), (stop - 1) // max(rows, 1)
    parts = last - first + 1  # columns of each run
    run = np.repeat(np.arange(len(start)), parts)
    column = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)
    top = np.maximum(start[run] - column * rows, 0)
    bottom = np.minimum(stop[run] - column * rows, rows)
    origin = (corner[0] + column) * height + corner[1]
    return origin + top, origin + bottom


def _union(start: IntArray, stop: IntArray) -> tuple[IntArray, IntArray]:
    """Join runs that overlap or meet; the result is in order."""
    if not len(start):
        return start, stop
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(stop[order])
    gap = start[1:] > reach[:-1]
    return start[np.append(True, gap)], reach[np.append(gap, True)]
