"""Checks of one record's annotations; no file is read."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectron2.structures import BoxMode

from .masks import Size, mask_defects
from .report import KINDS, Finding

__all__ = ["Expected", "check_annotations", "without_defects"]

# Ignored overlap with the image border: COCO's own boxes exceed it by rounding.
_BORDER = 1.0


@dataclass(frozen=True)
class Expected:
    """Requirements on annotations.

    Attributes:
        num_classes: category ids must be in 0 .. num_classes - 1; None: not checked.
        num_keypoints: keypoints per annotation; None: any number.
        masks: report annotations without a segmentation.
    """

    num_classes: int | None = None
    num_keypoints: int | None = None
    masks: bool = False


def annotations_of(record: Mapping[str, Any]) -> Sequence[Any]:
    """Return the annotations of a record, without unpacking a lazy one."""
    peek = getattr(record, "peek", None)
    return (peek() if peek is not None else record.get("annotations")) or ()


def check_annotations(
    record: Mapping[str, Any], annotations: Sequence[Any], index: int, expected: Expected
) -> Iterator[Finding]:
    """Check the annotations of a record.

    Args:
        record: with ``file_name``, and ``height`` and ``width`` if they are known.
        annotations: those of the record.
        index: position of the record, for the findings.
        expected: requirements on the annotations.
    """
    file = str(record.get("file_name", "?"))
    size = record.get("height"), record.get("width")
    for position, anno in enumerate(annotations):
        if not isinstance(anno, Mapping):
            yield Finding(
                "malformed", file, f"annotation is a {type(anno).__name__}", position, index, position
            )
            continue
        name = anno.get("id", position)
        for kind, value, part in _defects(anno, size, expected):
            yield Finding(kind, file, value, name, index, position, part)


def _defects(anno: Mapping[str, Any], size: Size, expected: Expected) -> Iterator[tuple[str, str, int]]:
    category = anno.get("category_id")
    if not isinstance(category, int) or isinstance(category, bool):
        if not hasattr(category, "__index__"):
            yield "category-unknown", f"category_id {category!r}", -1
    elif expected.num_classes is not None and not 0 <= category < expected.num_classes:
        yield "category-unknown", f"category_id {category}, {expected.num_classes} classes", -1
    for kind, value in _box_defects(anno, size):
        yield kind, value, -1
    yield from _mask_defects(anno, size, expected)
    for kind, value in _keypoint_defects(anno.get("keypoints"), expected):
        yield kind, value, -1


def _box_defects(anno: Mapping[str, Any], size: Size) -> Iterator[tuple[str, str]]:
    box = anno.get("bbox")
    if box is not None and (not hasattr(box, "__len__") or isinstance(box, (str, Mapping))):
        yield "box-not-finite", f"a {type(box).__name__} instead of numbers"
        return
    if box is None or len(box) == 0:
        if not anno.get("segmentation"):
            yield "box-missing", "" if box is None else "[]"
        elif box is not None:
            yield "box-empty", "[]"
        return
    try:
        values = [float(v) for v in box]
    except (TypeError, ValueError, OverflowError):
        yield "box-not-finite", str(box)[:80]
        return
    if not all(map(math.isfinite, values)):
        yield "box-not-finite", str(box)
    elif len(values) == 5:
        yield from _rotated_defects(values, size)
    elif len(values) != 4:
        yield "box-not-finite", f"{len(values)} numbers: {values}"
    else:
        mode = BoxMode(anno.get("bbox_mode", BoxMode.XYXY_ABS))
        if mode == BoxMode.XYWH_ABS:
            values = [values[0], values[1], values[0] + values[2], values[1] + values[3]]
        yield from _upright_defects(values, str(list(box)), size)


def _upright_defects(values: list[float], shown: str, size: Size) -> Iterator[tuple[str, str]]:
    x0, y0, x1, y1 = values
    if x1 <= x0 or y1 <= y0:
        yield "box-empty", shown
        return
    height, width = size
    if height is None or width is None:
        return
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        yield "box-outside", f"{shown} in {width}x{height}"
    elif x0 < -_BORDER or y0 < -_BORDER or x1 > width + _BORDER or y1 > height + _BORDER:
        yield "box-beyond", f"{shown} in {width}x{height}"


def _rotated_defects(values: list[float], size: Size) -> Iterator[tuple[str, str]]:
    x, y, w, h, _ = values
    if w <= 0 or h <= 0:
        yield "box-empty", str(values)
    elif None not in size and not (0 <= x <= size[1] and 0 <= y <= size[0]):
        yield "box-outside", f"centre ({x:g}, {y:g}) in {size[1]}x{size[0]}"


def _mask_defects(anno: Mapping[str, Any], size: Size, expected: Expected) -> Iterator[tuple[str, str, int]]:
    masks = anno.get("segmentation")
    if masks is None or (hasattr(masks, "__len__") and len(masks) == 0):
        if expected.masks:
            yield "mask-missing", "", -1
    else:
        yield from mask_defects(masks, size)


def _keypoint_defects(keypoints: object, expected: Expected) -> Iterator[tuple[str, str]]:
    if keypoints is None or not hasattr(keypoints, "__len__") or not len(keypoints):
        return
    try:
        values = np.asarray(keypoints, dtype=float)
    except (TypeError, ValueError, OverflowError):
        values = np.array([np.nan])
    wanted = "a multiple of 3" if expected.num_keypoints is None else str(3 * expected.num_keypoints)
    if values.size % 3 or (expected.num_keypoints is not None and values.size != 3 * expected.num_keypoints):
        yield "keypoints-count", f"{values.size} values, expected {wanted}"
    elif not np.isfinite(values).all():
        yield "keypoints-count", f"not all are numbers: {str(keypoints)[:80]}"


def without_defects(annotations: Sequence[Any], found: Sequence[Finding]) -> list[Any]:
    """Return the annotations without the ones, or the polygons, that findings name."""
    drop = {f.position for f in found if KINDS[f.kind].action == "drop-annotation"}
    polygons: dict[int, set[int]] = defaultdict(set)
    for f in found:
        if KINDS[f.kind].action == "drop-polygons":
            polygons[f.position].add(f.part)
    kept = []
    for position, anno in enumerate(annotations):
        if position in drop:
            continue
        if position in polygons:
            rest = [p for part, p in enumerate(anno["segmentation"]) if part not in polygons[position]]
            if not rest:
                continue
            anno = {**anno, "segmentation": rest}
        kept.append(anno)
    return kept
