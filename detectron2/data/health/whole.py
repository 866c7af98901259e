"""Check all labels of a data set together: boxes of another kind, mixed kinds, duplicate labels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from detectron2.structures import BoxMode

from .report import Finding

__all__ = ["whole_defects"]

_SHARE = 0.8  # share of the boxes that must look like another kind
_PIXELS = 2.0  # allowed difference between a box and its outline


def whole_defects(
    annotations: Sequence[Sequence[Any]], records: Sequence[Mapping[str, Any]], source: str
) -> Iterator[Finding]:
    """Find defects that only show in all labels together.

    Args:
        annotations: of each record.
        records: with ``height`` and ``width`` if they are known.
        source: name of the data in the findings.
    """
    labels = [(a, r) for annos, r in zip(annotations, records) for a in annos if isinstance(a, Mapping)]
    kind = _box_kind(labels)
    if kind:
        yield Finding("boxes-kind", source, kind)
    for index, annos in enumerate(annotations):
        yield from _twice(annos, str(records[index].get("file_name", index)), index)
    plain = [a for a, _ in labels if not a.get("iscrowd")]
    if labels and not plain:
        yield Finding("only-crowds", source, f"{len(labels)} labels")
    for finding, having in (
        ("masks-partly", [bool(_length(a.get("segmentation"))) for a in plain]),
        ("boxes-rotated", [_length(a.get("bbox")) == 5 for a in plain]),
    ):
        if any(having) and not all(having):
            count = having.count(finding == "boxes-rotated")
            yield Finding(finding, source, f"{count} of {len(having)} labels")


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else int(value is not None)


def _twice(annos: Sequence[Any], file: str, index: int) -> Iterator[Finding]:
    seen: dict[Any, Any] = {}
    for position, a in enumerate(annos):
        if not isinstance(a, Mapping):
            continue
        key = (str(a.get("category_id")), str(a.get("bbox")), str(a.get("segmentation"))[:2000])
        name = a.get("id", position)
        if key in seen:
            yield Finding("label-duplicate", file, f"as {seen[key]}", name, index, position)
        seen.setdefault(key, name)


def _numbers(labels: Sequence[tuple[Any, Mapping[str, Any]]]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the upright boxes that consist of numbers, their image sizes, and the boxes around their outlines."""
    boxes, sizes, around = [], [], []
    for a, r in labels:
        box = a.get("bbox")
        if not isinstance(box, (list, tuple)) or len(box) != 4 or not r.get("height") or not r.get("width"):
            continue
        if not all(isinstance(v, (int, float)) and abs(v) < 1e9 for v in box):
            continue
        boxes.append(box)
        sizes.append((r["width"], r["height"]))
        around.append(_around(a))
    return boxes, sizes, around


def _around(anno: Mapping[str, Any]) -> list[float]:
    parts = anno.get("segmentation")
    none = [np.nan] * 4
    if anno.get("bbox_mode") != BoxMode.XYWH_ABS or not isinstance(parts, list):
        return none
    flat = [v for p in parts if isinstance(p, list) for v in p]
    if len(flat) < 6 or len(flat) % 2 or not all(isinstance(v, (int, float)) and abs(v) < 1e9 for v in flat):
        return none
    return [min(flat[::2]), min(flat[1::2]), max(flat[::2]), max(flat[1::2])]


def _box_kind(labels: Sequence[tuple[Any, Mapping[str, Any]]]) -> str:
    """Describe what the boxes are if they are not in the format's form; empty if they may be."""
    found, image_sizes, outlines = _numbers(labels)
    if not found:
        return ""
    boxes, sizes, around = (np.asarray(v, dtype=float) for v in (found, image_sizes, outlines))
    shown = f"for instance {found[0]} in an image of {image_sizes[0][0]}x{image_sizes[0][1]}"
    small = (boxes >= -0.01).all(1) & (boxes <= 1.01).all(1)
    if (small & (sizes.min(1) > 16)).mean() >= _SHARE:
        return f"they look like fractions of the image (relative, normalised), {shown}"
    known = np.isfinite(around).all(1)
    if known.sum() >= max(1, _SHARE * len(boxes) / 2):
        b, o = boxes[known], around[known]
        extent = o[:, 2:] - o[:, :2]
        kinds = {
            "": np.concatenate([o[:, :2], extent], 1),
            "corners (x0, y0, x1, y1) instead of x, y, width, height": o,
            "centre, width and height instead of the upper left corner": np.concatenate(
                [(o[:, :2] + o[:, 2:]) / 2, extent], 1
            ),
            "y, x, height, width": np.concatenate([o[:, 1::-1], extent[:, ::-1]], 1),
            "corners (y0, x0, y1, x1)": o[:, [1, 0, 3, 2]],
        }
        near = {
            k: (np.abs(b - v) <= _PIXELS + 0.02 * extent.max(1, keepdims=True)).all(1).mean()
            for k, v in kinds.items()
        }
        best = max(near, key=lambda k: near[k])
        return (
            f"beside their outlines they are {best}, {shown}"
            if near[best] >= _SHARE and best and near[""] < _SHARE
            else ""
        )
    return _without_outlines(boxes, sizes, labels, shown)


def _without_outlines(
    boxes: Any, sizes: Any, labels: Sequence[tuple[Any, Mapping[str, Any]]], shown: str
) -> str:
    if not any(a.get("bbox_mode") == BoxMode.XYWH_ABS for a, _ in labels):
        return ""
    inside = (boxes >= 0).all(1) & (boxes[:, 2:] <= sizes + 1).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    beyond = (boxes[:, :2] + boxes[:, 2:] > sizes + 1).any(1)
    if inside.all() and beyond.mean() >= 0.3:
        return f"they look like corners (x0, y0, x1, y1) instead of x, y, width, height, {shown}"
    return ""
