"""Checks of one record's annotations; no file is read."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from detectron2.structures import BoxMode

from .report import KINDS, Finding

__all__ = ["Expected", "check_annotations", "without_defects"]

# COCO's own boxes overlap the border by rounding; that much is not worth a note.
_BORDER = 1.0


Size: TypeAlias = tuple[Any, Any]  # (height, width) as the record says, None where it does not


@dataclass(frozen=True)
class Expected:
    """What annotations must fit.

    Attributes:
        num_classes: category ids must lie in 0 .. num_classes - 1; None: not checked.
        num_keypoints: keypoints of an annotation; None: as many as the first annotation has.
        masks: a note for annotations without a segmentation.
    """

    num_classes: int | None = None
    num_keypoints: int | None = None
    masks: bool = False


def check_annotations(
    record: Mapping[str, Any], annotations: Sequence[Any], index: int, expected: Expected
) -> Iterator[Finding]:
    """Check the annotations of a record.

    Args:
        record: with ``file_name``, and ``height`` and ``width`` where they are known.
        annotations: those of the record.
        index: position of the record, for the findings.
        expected: what they must fit.
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
        shown = anno.get("_category_in_file", category)
        yield "category-unknown", f"category_id {shown}, {expected.num_classes} classes", -1
    for kind, value in _box_defects(anno, size):
        yield kind, value, -1
    yield from _mask_defects(anno, size, expected)
    keypoints = anno.get("keypoints")
    if keypoints is not None and len(keypoints):
        flat = len(keypoints) if not hasattr(keypoints[0], "__len__") else 3 * len(keypoints)
        if flat % 3 or (expected.num_keypoints is not None and flat != 3 * expected.num_keypoints):
            wanted = "a multiple of 3" if expected.num_keypoints is None else str(3 * expected.num_keypoints)
            yield "keypoints-count", f"{flat} values, expected {wanted}", -1


def _box_defects(anno: Mapping[str, Any], size: Size) -> Iterator[tuple[str, str]]:
    box = anno.get("bbox")
    if box is None or len(box) == 0:
        if not anno.get("segmentation"):
            yield "box-missing", "" if box is None else "[]"
        elif box is not None:
            yield "box-empty", "[]"
        return
    try:
        values = [float(v) for v in box]
    except (TypeError, ValueError):
        yield "box-not-finite", str(box)
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
    if masks is None or len(masks) == 0:
        if expected.masks:
            yield "mask-missing", "", -1
    elif isinstance(masks, Mapping):
        given = list(masks.get("size", ()))
        if None not in size and given != [size[0], size[1]]:
            yield "mask-size", f"mask {given}, image {list(size)} (height, width)", -1
    elif isinstance(masks, list):
        for part, polygon in enumerate(masks):
            if not hasattr(polygon, "__len__"):
                yield "polygon-short", f"a {type(polygon).__name__} instead of a list of coordinates", part
            elif len(polygon) < 6:
                yield "polygon-short", f"{len(polygon)} coordinates", part
            elif len(polygon) % 2:
                yield "polygon-odd", f"{len(polygon)} coordinates", part
            elif not math.isfinite(sum(polygon)):
                yield "polygon-not-finite", str(list(polygon))[:80], part
    elif hasattr(masks, "shape") and None not in size and tuple(masks.shape) != tuple(size):
        yield "mask-size", f"mask {list(masks.shape)}, image {list(size)} (height, width)", -1


def without_defects(annotations: Sequence[Any], found: Sequence[Finding]) -> list[Any]:
    """Leave out the annotations, or those polygons, that findings name."""
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
