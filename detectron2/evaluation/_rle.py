"""Run-length encoding of a stack of masks, all masks at once, in COCO's compressed form.

The bytes equal those of ``pycocotools.mask.encode``; only the pixels inside each mask's window are
transposed and scanned, where ``encode`` reads every pixel of every mask in column order.
"""

# Legend: N masks of H x W pixels, S transitions (0 -> 1 or 1 -> 0) of all masks together, C runs.

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class EncodedMasks(NamedTuple):
    """Compressed masks of one image.

    Attributes:
        counts: N byte strings, COCO's ``counts``.
        areas: N pixel counts.
        size: ``(height, width)``.
    """

    counts: list[bytes]
    areas: IntArray
    size: tuple[int, int]


def encode_masks(masks: npt.NDArray[np.bool_], boxes: npt.NDArray | None = None) -> EncodedMasks:
    """Encode masks.

    Args:
        masks: bool ``[N, H, W]``.
        boxes: ``[N, 4]`` XYXY, where the masks are expected to lie. Only a hint that saves time: a mask
            that reaches outside its box is encoded whole.

    Returns:
        The masks as COCO RLE.
    """
    n, h, w = masks.shape
    if n == 0 or h == 0 or w == 0:
        runs = np.full(n, h * w, dtype=np.int64)
        return EncodedMasks(_compress(runs, np.ones(n, dtype=np.int64)), np.zeros(n, dtype=np.int64), (h, w))
    windows = None if boxes is None else _windows_of_boxes(boxes, h, w)
    if windows is not None:
        encoded = _encode_windows(masks, windows)
        if int(encoded.areas.sum()) == int(np.count_nonzero(masks)):
            return encoded
    return _encode_windows(masks, _windows_of_masks(masks))


def _windows_of_boxes(boxes: npt.NDArray, h: int, w: int) -> IntArray | None:
    """[N, 4] whole-pixel windows, one pixel wider than the boxes; None when a box is not finite."""
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.shape[-1] != 4 or not np.isfinite(boxes).all():
        return None
    limits = np.array([w, h, w, h])
    grown = np.concatenate([np.floor(boxes[:, :2]) - 1, np.ceil(boxes[:, 2:]) + 1], axis=1)
    windows = np.clip(grown, 0, limits).astype(np.int64)
    windows[:, 2:] = np.maximum(windows[:, 2:], windows[:, :2])
    return windows


def _windows_of_masks(masks: npt.NDArray[np.bool_]) -> IntArray:
    """[N, 4] tight windows XYXY of the masks' pixels; empty for an empty mask."""
    windows = np.zeros((len(masks), 4), dtype=np.int64)
    for axis, column in ((1, 0), (2, 1)):
        used = np.logical_or.reduce(masks, axis=axis)  # [N, W] or [N, H]
        filled = used.any(axis=1)
        windows[:, column] = np.where(filled, used.argmax(axis=1), 0)
        windows[:, column + 2] = np.where(filled, used.shape[1] - used[:, ::-1].argmax(axis=1), 0)
    return windows


def _encode_windows(masks: npt.NDArray[np.bool_], windows: IntArray) -> EncodedMasks:
    n, h, w = masks.shape
    total = h * w
    where, owner = _transitions(masks, windows)  # [S] positions in column order, [S] mask of each
    # Two transitions at one place (a full-height column meets the next) are no transition at all.
    keys = owner * (total + 1) + where
    same = keys[1:] == keys[:-1]
    keep = np.ones(len(keys), dtype=bool)
    keep[1:] &= ~same
    keep[:-1] &= ~same
    where, owner = where[keep], owner[keep]

    per_mask = np.bincount(owner, minlength=n)
    signs = np.empty(len(where), dtype=np.int64)
    first = np.concatenate([[0], np.cumsum(per_mask)[:-1]])
    signs[:] = 1 - 2 * ((np.arange(len(where)) - first[owner]) % 2)
    areas = -np.bincount(owner, weights=signs * where, minlength=n).astype(np.int64)

    # Runs are the gaps between 0, the transitions, and the end; no empty run at the end.
    inner = per_mask > 0
    ends_full = np.zeros(n, dtype=bool)
    ends_full[inner] = where[first[inner] + per_mask[inner] - 1] == total
    lengths = per_mask + ~ends_full  # [N] runs of each mask
    begin = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    stops = np.full(int(lengths.sum()), total, dtype=np.int64)  # [C]
    stops[begin[owner] + np.arange(len(where)) - first[owner]] = where
    runs = np.diff(stops, prepend=0)
    runs[begin] = stops[begin]
    return EncodedMasks(_compress(runs, lengths), areas, (h, w))


def _transitions(masks: npt.NDArray[np.bool_], windows: IntArray) -> tuple[IntArray, IntArray]:
    """Where the masks change along columns: positions ``x * H + y`` and the masks that they belong to."""
    h = masks.shape[1]
    heights = windows[:, 3] - windows[:, 1]
    widths = windows[:, 2] - windows[:, 0]
    strides = heights + 1  # one 0 stands before each column
    starts = np.concatenate([[0], np.cumsum(widths * strides)])
    flat = np.zeros(int(starts[-1]) + 1, dtype=np.uint8)
    pixels = masks.view(np.uint8)
    for i, (x0, y0, x1, y1) in enumerate(windows.tolist()):
        columns = flat[starts[i] : starts[i + 1]].reshape(x1 - x0, y1 - y0 + 1)
        columns[:, 1:] = pixels[i, y0:y1, x0:x1].T
    # A change at slot k of a column means: pixel k - 1 differs from the one before; slot 0 ends the last column.
    at = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    before = np.searchsorted(at, starts[:-1])  # changes before each mask's window
    owner = np.repeat(np.arange(len(masks)), np.diff(before, append=len(at)))
    # a run that fills a mask's last column ends at the first slot of the next mask's window
    spill = (at == starts[owner]) & (at > 0)
    owner = np.where(spill, _previous_nonempty(widths * strides)[owner], owner)
    # 32 bits halve the time of the division; a window is far smaller than 2^31
    column, row = np.divmod((at - starts[owner]).astype(np.int32), strides.astype(np.int32)[owner])
    ends = row == 0
    column = column - ends
    row = np.where(ends, heights[owner], row - 1)
    return (windows[owner, 0] + column) * h + windows[owner, 1] + row, owner


def _previous_nonempty(sizes: IntArray) -> IntArray:
    """For each index, the nearest smaller one whose size is not zero."""
    last = np.where(sizes > 0, np.arange(len(sizes)), -1)
    return np.concatenate([[0], np.maximum.accumulate(last)[:-1]])


def _compress(runs: IntArray, lengths: IntArray) -> list[bytes]:
    """COCO's text form of run lengths: differences to the run two before, 5 bits a character.

    Args:
        runs: [C] runs of all masks, one mask after the other.
        lengths: [N] number of runs of each mask.
    """
    begin = np.concatenate([[0], np.cumsum(lengths)])
    rank = np.arange(len(runs)) - np.repeat(begin[:-1], lengths)
    rest = runs.astype(np.int32) if len(runs) and runs.max() < 2**30 else runs.copy()
    late = np.flatnonzero(rank > 2)
    rest[late] -= runs[late - 2].astype(rest.dtype)
    largest = int(np.abs(rest).max(initial=0))
    width = largest.bit_length() // 5 + 1  # 5 bits a character, one of all bits for the sign
    chars = np.zeros((len(runs), width), dtype=np.uint8)
    sizes = np.ones(len(runs), dtype=np.int64)
    active: Any = slice(None)
    for k in range(width):
        low = rest & 0x1F
        rest = rest >> 5
        more = np.where(low & 0x10, rest != -1, rest != 0)
        chars[active, k] = low + 48 + 0x20 * more
        active = np.flatnonzero(more) if k == 0 else active[more]
        if not len(active):
            break
        sizes[active] += 1
        rest = rest[more]
    text = chars[np.arange(width) < sizes[:, None]].tobytes()
    stops = np.concatenate([[0], np.cumsum(sizes)])[begin].tolist()
    return [text[a:b] for a, b in itertools.pairwise(stops)]
