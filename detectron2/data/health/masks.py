"""Check outlines and masks without rasterizing them, so that no value can cost much memory or time."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from detectron2.structures.rle import run_lengths

__all__ = ["Size", "mask_defects"]

Size: TypeAlias = tuple[Any, Any]  # (height, width) of the record, None if unknown


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
    try:
        runs = run_lengths(rle)
    except (ValueError, TypeError, OverflowError) as error:
        yield "mask-broken", str(error)[:200]
        return
    height, width = (int(v) for v in rle["size"])
    if None not in size and (height, width) != tuple(size):
        yield "mask-size", f"mask {[height, width]}, image {list(size)} (height, width)"
    elif runs.sum() != height * width:
        yield "mask-broken", f"counts sum up to {runs.sum()}, the size to {height} * {width}"
