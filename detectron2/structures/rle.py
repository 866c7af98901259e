"""Masks as run-length encoding (RLE) in COCO's form: decode, encode, and convert any segmentation to pixels.

:func:`encode_masks` encodes a stack of masks at once. The bytes equal those of ``pycocotools.mask.encode``, but only the
pixels inside each mask's window are transposed and scanned.
"""

# Legend: N masks of H x W pixels, C rows of gaps and runs of all masks together.

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from detectron2.utils.errors import BadType, BadValue

from ._polygons import bounded_polygons, polygons_to_bitmask

__all__ = [
    "EncodedMasks",
    "Segmentation",
    "bounded_polygons",
    "decode",
    "encode",
    "encode_masks",
    "encode_runs",
    "mask_box",
    "run_lengths",
    "to_mask",
    "to_rle",
]

Segmentation: TypeAlias = Sequence[Sequence[float]] | Mapping[str, Any] | npt.NDArray
"""Polygons ``[[x0, y0, x1, y1, ...], ...]``, a run-length encoding, or an array ``[H, W]``."""

IntArray = npt.NDArray[Any]
_PIXELS_AT_ONCE = 1 << 20
_GROUP = 240  # words whose bytes can be summed without overflow
_MAX_PIXELS = (
    1 << 29
)  # of one mask; larger than any readable image, and one byte per pixel still fits in memory


def to_mask(segmentation: Segmentation, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Convert any segmentation to pixels.

    Args:
        segmentation: polygons ``[[x0, y0, x1, y1, ...], ...]`` (those with fewer than three points cover nothing), an
            RLE dict with compressed or plain ``counts``, or an array ``[height, width]``, nonzero inside.
        height: of the image in pixels.
        width: of the image in pixels.

    Returns:
        bool ``[height, width]``.

    Raises:
        TypeError: if the segmentation is of none of these kinds.
        ValueError: if the segmentation does not have the size of the image, or is damaged.
    """
    if isinstance(segmentation, Mapping):
        return decode(segmentation, (height, width))
    if isinstance(segmentation, (list, tuple)):
        polygons = [_flat(polygon) for polygon in segmentation]
        return polygons_to_bitmask([p for p in polygons if len(p) >= 6], height, width)
    if not isinstance(segmentation, np.ndarray):
        raise BadType(
            "a segmentation must be a list of polygons [x, y, x, y, ...], a COCO run-length encoding (dict with 'size' "
            f"and 'counts') or an array [H, W], got {type(segmentation).__name__}: {str(segmentation)[:80]!r}"
        )
    if segmentation.shape != (height, width):
        raise BadValue(
            f"a mask has the shape {segmentation.shape}, but its image has the size {(height, width)}"
        )
    return segmentation.astype(bool)


def _flat(polygon: npt.ArrayLike) -> npt.NDArray[np.float64]:
    points = np.asarray(polygon, dtype=np.float64)
    if points.ndim == 0 or points.size % 2:
        raise BadValue(f"a polygon must be [x0, y0, x1, y1, ...], got {str(polygon)[:80]}")
    return points.reshape(-1)


def decode(rle: Mapping[str, Any], size: tuple[int, int] | None = None) -> npt.NDArray[np.bool_]:
    """Decode an RLE; pixels after its last run are background.

    Args:
        rle: ``size`` (height, width), and ``counts``: compressed text or a list of numbers.
        size: required size; None: not checked.

    Returns:
        bool ``[height, width]``, in column order as the runs are.

    Raises:
        ValueError: if the RLE is damaged, of another size, or of more than 2^29 pixels.
    """
    height, width = _size_of(rle)
    if size is not None and (height, width) != tuple(size):
        raise BadValue(f"a run-length encoding is of size {(height, width)}, its image of {tuple(size)}")
    runs = run_lengths(rle)
    inside = np.arange(len(runs) + 1) % 2 == 1
    inside[-1] = False  # the rest
    pixels = np.repeat(inside, np.append(runs, height * width - runs.sum()))
    return pixels.reshape(width, height).T


def _size_of(rle: Mapping[str, Any]) -> tuple[int, int]:
    if "counts" not in rle or "size" not in rle:
        raise BadValue(
            f"a run-length encoded mask needs 'size' and 'counts', got the keys {sorted(map(str, rle))}"
        )
    size = np.asarray(rle["size"])
    if size.shape != (2,) or size.dtype.kind not in "iuf" or not (size >= 0).all() or (size % 1).any():
        raise BadValue(f"'size' of a run-length encoding must be [height, width], got {rle['size']!r}")
    height, width = (int(v) for v in size)
    if height * width > _MAX_PIXELS:
        raise BadValue(f"a run-length encoding of {height} x {width} pixels is larger than any image can be")
    return height, width


def run_lengths(rle: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """Read the run lengths of an RLE, alternately of background and object, starting with background.

    Raises:
        ValueError: if the counts are damaged, or longer than the image.
    """
    height, width = _size_of(rle)
    counts = rle["counts"]
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    runs = _expand(counts) if isinstance(counts, bytes) else _as_runs(counts)
    # Check each run first, so that their sum cannot overflow.
    if runs.size and (runs.min() < 0 or runs.max() > height * width or runs.sum() > height * width):
        raise BadValue(
            f"the runs of a run-length encoding do not fit its size {(height, width)}: {runs.tolist()[:8]}"
        )
    return runs


def _as_runs(counts: npt.ArrayLike) -> npt.NDArray[np.int64]:
    runs = np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iuf" or (runs % 1).any():
        raise BadValue(
            f"'counts' of a run-length encoding must be text or a list of integers, got {str(counts)[:80]}"
        )
    return runs.astype(np.int64)


def _expand(text: bytes) -> npt.NDArray[np.int64]:
    """Invert :func:`_compress` for one mask."""
    digits = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if not digits.size:
        return digits
    ends = np.flatnonzero((digits & 0x20) == 0) + 1
    starts = np.concatenate([[0], ends[:-1]])
    sizes = ends - starts
    if digits.min() < 0 or digits.max() > 63 or not ends.size or ends[-1] < len(digits) or sizes.max() > 7:
        raise BadValue(f"the counts of a run-length encoding are damaged: {text[:40]!r}")
    place = np.arange(len(digits)) - np.repeat(starts, sizes)
    runs = np.add.reduceat((digits & 0x1F) << 5 * place, starts)
    runs -= np.where(digits[ends - 1] & 0x10, 1 << 5 * sizes, 0)
    # From the fourth number on, values are differences to the run two before.
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs


def encode(mask: npt.NDArray[Any]) -> dict[str, Any]:
    """Encode one mask ``[H, W]``, nonzero inside, as ``size`` and ``counts`` (text), ready for JSON."""
    encoded = encode_masks(np.asarray(mask).astype(bool)[None])
    return {"size": list(encoded.size), "counts": encoded.counts[0].decode("ascii")}


def to_rle(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """Convert any segmentation to a compressed RLE with ``counts`` as text; a compressed RLE is only checked."""
    if isinstance(segmentation, Mapping) and isinstance(segmentation["counts"], (str, bytes)):
        run_lengths(segmentation)
        counts = segmentation["counts"]
        text = counts if isinstance(counts, str) else counts.decode("ascii")
        return {"size": [int(v) for v in segmentation["size"]], "counts": text}
    return encode(to_mask(segmentation, height, width))


def mask_box(mask: npt.NDArray[np.bool_]) -> list[float]:
    """Return the tight box XYWH around a mask; zeros for an empty one."""
    x0, y0, x1, y1 = _windows_of_masks(mask[None])[0].tolist()
    return [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]


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
        boxes: ``[N, 4]`` XYXY, expected to contain the masks. Only a hint that saves time: a mask that extends
            outside its box is still encoded completely.

    Returns:
        The masks as COCO RLE.
    """
    n, h, w = masks.shape
    if n == 0 or h == 0 or w == 0:
        return EncodedMasks([b"0"] * n, np.zeros(n, dtype=np.int64), (h, w))  # one run of no pixels
    windows = None if boxes is None else _windows_of_boxes(boxes, h, w)
    if windows is not None:
        encoded = _encode_windows(_cut(masks, windows), windows, (h, w))
        if int(encoded.areas.sum()) == _pixels(masks):
            return encoded
    windows = _windows_of_masks(masks)
    return _encode_windows(_cut(masks, windows), windows, (h, w))


def _cut(masks: npt.NDArray[np.bool_], windows: IntArray) -> list[npt.NDArray[np.bool_]]:
    """Return views of the masks' pixels in their windows."""
    return [masks[i, y0:y1, x0:x1] for i, (x0, y0, x1, y1) in enumerate(windows.tolist())]


def _pixels(masks: npt.NDArray[np.bool_]) -> int:
    """Count set pixels, eight at a time, since this pass over all memory takes most of the time of encoding."""
    if not masks.flags.c_contiguous:
        return int(np.count_nonzero(masks))
    flat = masks.reshape(-1)
    end = flat.size // (8 * _GROUP) * (8 * _GROUP)
    words = torch.from_numpy(flat[:end].view(np.int64))
    lanes = words.view(-1, _GROUP).sum(1).numpy().view(np.uint8)  # a byte holds the sum of up to 255 pixels
    return int(lanes.sum(dtype=np.int64)) + int(np.count_nonzero(flat[end:]))


def _windows_of_boxes(boxes: npt.NDArray, h: int, w: int) -> IntArray | None:
    """Return [N, 4] integer windows, one pixel wider than the boxes; None if a box is not finite."""
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.shape[-1] != 4 or not np.isfinite(boxes).all():
        return None
    limits = np.array([w, h, w, h])
    grown = np.concatenate([np.floor(boxes[:, :2]) - 1, np.ceil(boxes[:, 2:]) + 1], axis=1)
    windows = np.clip(grown, 0, limits).astype(np.int64)
    windows[:, 2:] = np.maximum(windows[:, 2:], windows[:, :2])
    return windows


def _windows_of_masks(masks: npt.NDArray[np.bool_]) -> IntArray:
    """Return [N, 4] tight XYXY windows of the masks' pixels; empty for an empty mask."""
    windows = np.zeros((len(masks), 4), dtype=np.int64)
    for axis, column in ((1, 0), (2, 1)):
        used = np.logical_or.reduce(masks, axis=axis)  # [N, W] or [N, H]
        filled = used.any(axis=1)
        windows[:, column] = np.where(filled, used.argmax(axis=1), 0)
        windows[:, column + 2] = np.where(filled, used.shape[1] - used[:, ::-1].argmax(axis=1), 0)
    return windows


def _encode_windows(
    crops: Sequence[npt.NDArray[np.bool_]], windows: IntArray, size: tuple[int, int]
) -> EncodedMasks:
    """Encode some masks at a time, so that their runs, of which noise has one for every other pixel, fit the cache."""
    pixels = np.cumsum((windows[:, 2] - windows[:, 0]) * (windows[:, 3] - windows[:, 1]))
    parts = []
    for some in np.split(np.arange(len(crops)), np.flatnonzero(np.diff(pixels // _PIXELS_AT_ONCE)) + 1):
        start, length, owner = _runs([crops[i] for i in some], windows[some], size[0])
        parts.append(encode_runs(start, start + length, owner, len(some), size))
    counts = [text for part in parts for text in part.counts]
    return EncodedMasks(counts, np.concatenate([part.areas for part in parts]), size)


def encode_runs(
    start: IntArray, stop: IntArray, owner: IntArray, count: int, size: tuple[int, int]
) -> EncodedMasks:
    """Encode masks that are given by their runs in column order.

    Args:
        start: ``[R]`` first position ``x * H + y`` of each run, rising within a mask; runs may meet, but not overlap.
        stop: ``[R]`` position behind each run.
        owner: ``[R]`` mask of each run, not falling.
        count: masks.
        size: (height, width) of the image, of less than 2^31 pixels.
    """
    n, (h, w) = count, size
    meets = (start[1:] == stop[:-1]) & (owner[1:] == owner[:-1])
    if meets.any():  # a column filled to its end runs on in the next one
        start, stop = start[np.append(True, ~meets)], stop[np.append(~meets, True)]
        owner = owner[np.append(True, ~meets)]
    length = stop - start
    areas = np.bincount(owner, weights=length, minlength=n).astype(np.int64)

    # COCO's runs of a mask: gap, run, gap, run, ..., rest. One row (gap, run) for each run, one (rest, -) for each mask.
    per_mask = np.bincount(owner, minlength=n)
    closing = np.cumsum(per_mask) + np.arange(n)  # [N] row of each mask's rest
    rows = np.arange(len(start)) + owner
    table = np.zeros((len(start) + n, 2), dtype=np.int32)
    ends = np.zeros(len(table) + 1, dtype=np.int32)  # end of the run before each row, 0 for a mask's first
    ends[rows + 1] = stop
    table[rows, 0], table[rows, 1] = start - ends[rows], length
    table[closing, 0] = h * w - np.where(per_mask > 0, ends[closing], 0)
    return EncodedMasks(_compress(table, closing), areas, (h, w))


def _runs(
    crops: Sequence[npt.NDArray[np.bool_]], windows: IntArray, h: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Find runs of set pixels within columns, mask by mask: first position ``x * H + y``, length, and mask."""
    strides = windows[:, 3] - windows[:, 1] + 1  # each column is preceded by one 0
    widths = windows[:, 2] - windows[:, 0]
    offsets = np.concatenate([[0], np.cumsum(widths * strides)])
    flat = np.zeros(int(offsets[-1]) + 1, dtype=np.bool_)
    for i, (x0, y0, x1, y1) in enumerate(windows.tolist()):
        columns = flat[offsets[i] : offsets[i + 1]].reshape(x1 - x0, y1 - y0 + 1)
        columns[:, 1:] = crops[i].T
    changes = np.flatnonzero(
        flat[1:] != flat[:-1]
    )  # alternately the slot before a run and the run's last slot
    before = changes[::2]
    length = (changes[1::2] - before).astype(np.int32)
    counts = np.diff(np.searchsorted(before, offsets))
    owner = np.repeat(np.arange(len(crops)), counts)
    # 32 bits halve the time of the division
    inside = (before - offsets[owner]).astype(np.int32)
    column, row = np.divmod(inside, strides.astype(np.int32)[owner])
    # `before` is the slot above the run's first pixel: pixel row - 1 of its column, so that the run begins at `row`
    origin = (windows[:, 0] * h + windows[:, 1]).astype(np.int32)
    return origin[owner] + column * np.int32(h) + row, length, owner


def _compress(table: npt.NDArray[np.int32], closing: IntArray) -> list[bytes]:
    """Write run lengths in COCO's text form: differences to the run two before, 5 bits per character.

    Args:
        table: ``[C, 2]`` rows (gap, run), mask after mask; the last row of each mask is the gap after its last run
            (not written if 0) and an unused number.
        closing: ``[N]`` index of the last row of each mask.
    """
    rest = table.copy()
    first = np.concatenate([[0], closing[:-1] + 1])
    rest[1:] -= table[:-1]  # the run two before is one row above
    # no difference in a mask's first row, nor (a quirk of the format) for its third run
    rest[first] = table[first]
    second = (first + 1)[first < closing]
    rest[second, 0] = table[second, 0]
    spread = (rest ^ (rest >> 31)).reshape(-1)  # a number of 5 k - 1 bits and a sign takes k characters
    sizes = np.ones(len(spread), dtype=np.int64)
    for bits in range(4, int(spread.max(initial=0)).bit_length(), 5):
        sizes += spread >= 1 << bits
    sizes[2 * closing + 1] = 0
    sizes[2 * closing[(table[closing, 0] == 0) & (closing > first)]] = 0
    stops = np.cumsum(sizes)
    text = np.empty(int(stops[-1]), dtype=np.uint8)
    begin, values = stops - sizes, rest.reshape(-1)
    active = np.flatnonzero(sizes)
    for k in range(int(sizes.max())):
        more = sizes[active] > k + 1
        text[begin[active] + k] = ((values[active] >> 5 * k) & 0x1F) + 48 + 0x20 * more
        active = active[more]
    whole = text.tobytes()
    cuts = [0, *stops[2 * closing + 1].tolist()]
    return [whole[a:b] for a, b in itertools.pairwise(cuts)]
