"""Checks of outlines and masks; nothing is drawn, so that no number can take much memory or time."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

__all__ = ["Size", "mask_defects"]

Size: TypeAlias = tuple[Any, Any]  # (height, width) as the record says, None where it does not


def mask_defects(masks: Any, size: Size) -> Iterator[tuple[str, str, int]]:
    """Yield kind, value and polygon (-1: the whole mask) of the defects of a segmentation."""
    if isinstance(masks, Mapping):
        yield from ((kind, value, -1) for kind, value in _rle_defects(masks, size))
    elif isinstance(masks, list):
        for part, polygon in enumerate(masks):
            found = _polygon_defect(polygon, size)
            if found is not None:
                yield *found, part
    elif hasattr(masks, "shape"):
        if None not in size and tuple(masks.shape) != tuple(size):
            yield "mask-size", f"mask {list(masks.shape)}, image {list(size)} (height, width)", -1
    else:
        yield "mask-broken", f"a {type(masks).__name__} instead of polygons or RLE", -1


def _polygon_defect(polygon: Any, size: Size) -> tuple[str, str] | None:
    if not hasattr(polygon, "__len__") or isinstance(polygon, (str, Mapping)):
        return "polygon-short", f"a {type(polygon).__name__} instead of a list of coordinates"
    if len(polygon) < 6:
        return "polygon-short", f"{len(polygon)} coordinates"
    if len(polygon) % 2:
        return "polygon-odd", f"{len(polygon)} coordinates"
    try:
        values = [float(v) for v in polygon]
    except (TypeError, ValueError, OverflowError):
        return "polygon-not-finite", str(list(polygon))[:80]
    if not all(map(math.isfinite, values)):
        return "polygon-not-finite", str(list(polygon))[:80]
    if None not in size:
        for axis, length in ((0, size[1]), (1, size[0])):
            low, high = min(values[axis::2]), max(values[axis::2])
            if low < -length or high > 2 * length:
                return "polygon-far", f"a point at {high if high > length else low:g} of 0 .. {length}"
    return None


def _rle_defects(rle: Mapping[Any, Any], size: Size) -> Iterator[tuple[str, str]]:
    given, counts = rle.get("size"), rle.get("counts")
    if (
        not isinstance(given, (list, tuple))
        or len(given) != 2
        or not all(type(v) is int and v > 0 for v in given)
    ):
        yield "mask-broken", f"size {str(given)[:60]}, expected [height, width]"
        return
    if None not in size and list(given) != [size[0], size[1]]:
        yield "mask-size", f"mask {list(given)}, image {list(size)} (height, width)"
        return
    try:
        total = rle_pixels(counts)
    except (TypeError, ValueError) as error:
        yield "mask-broken", f"counts: {error}"
        return
    if total != given[0] * given[1]:
        yield "mask-broken", f"counts sum up to {total}, the size to {given[0]} * {given[1]}"


def rle_pixels(counts: object) -> int:
    """Return how many pixels run lengths cover.

    Args:
        counts: list of run lengths, or COCO's text: of each 6 bits 5 of a number, from the lowest on, those after the
            third run less the one two before.

    Raises:
        ValueError: a run is negative, or the text is none of that kind.
    """
    if isinstance(counts, (list, tuple)):
        if not all(type(v) is int and v >= 0 for v in counts):
            raise ValueError("not all are whole numbers from 0 on")
        return sum(counts)
    if not isinstance(counts, (str, bytes)):
        raise ValueError(f"a {type(counts).__name__}")
    runs: list[int] = []
    value = shift = 0
    for c in counts.encode("latin-1", "replace") if isinstance(counts, str) else counts:
        bits = c - 48
        if not 0 <= bits < 64 or shift > 55:
            raise ValueError("the text is no run-length encoding")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            raise ValueError("a run of negative length")
        value = shift = 0
    if shift:
        raise ValueError("the text is cut off")
    return sum(runs)
