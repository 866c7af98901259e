"""Read what the index holds of the images and annotations of a COCO file, a piece of the file at a time."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .objects import Flags, Ints, JsonObjects, LikeObjects, like_objects, spread
from .records import AnnotationReader

__all__ = [
    "Columns", "NotIndexable", "annotation_columns", "image_columns", "parsed_annotations", "parsed_images",
]  # fmt: skip

Columns = dict[str, npt.NDArray[Any]]

_ANNOTATION = ("ids", "image_ids", "categories", "crowd", "visible", "usable")


class NotIndexable(Exception):
    """The file has something that the index cannot hold, such as ids that are not integers."""


def annotation_columns(objects: JsonObjects) -> tuple[Columns, Ints]:
    """Return the columns of the annotations of a piece, and the rows that have to be parsed."""
    table = {name: np.zeros(len(objects.starts), dtype=np.int64) for name in _ANNOTATION}
    left = np.ones(len(objects.starts), dtype=np.bool_)
    for like in like_objects(objects):
        found, good = _annotations(like)
        for name, values in found.items():
            table[name][like.rows[good]] = values[good]
        left[like.rows[good]] = False
    return table, np.flatnonzero(left)


def parsed_annotations(annotations: Sequence[Any], source: str) -> Columns:
    """Return the columns of parsed annotations.

    Raises:
        NotIndexable: one lacks a key, or an id is not an integer.
        ValueError: one has an empty box.
    """
    try:
        for anno in annotations:
            if "bbox" in anno and not anno["bbox"]:
                AnnotationReader(source, None)(anno)  # raises
        rows = [
            (
                a["id"], a["image_id"], a["category_id"], a.get("iscrowd", 0), _visible(a.get("keypoints")),
                _usable(a.get("segmentation")),
            )
            for a in annotations
        ]  # fmt: skip
        return _columns(_ANNOTATION, rows)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise NotIndexable(f"annotations: {error!r}") from error


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Columns:
    """Return columns of integers; anything else raises TypeError, which a conversion by NumPy would not."""
    columns = zip(*rows) if rows else [()] * len(names)
    return {n: np.array(array("q", c), dtype=np.int64) for n, c in zip(names, columns, strict=True)}


def _visible(keypoints: Sequence[float] | None) -> int:
    return sum(v > 0 for v in keypoints[2::3]) if keypoints else 0


def _usable(segmentation: Sequence[Any] | Mapping[str, Any] | None) -> bool:
    if not segmentation or isinstance(segmentation, Mapping):
        return True
    return any(len(p) >= 6 and len(p) % 2 == 0 for p in segmentation)


# ------------------------------------------------------------------ many at once
def _annotations(like: LikeObjects) -> tuple[Columns, Flags]:
    """Return the columns of annotations with the same keys, and which of them are certain."""
    good = np.ones(len(like.rows), dtype=np.bool_)
    found: Columns = {}
    for name, key in (
        ("ids", "id"),
        ("image_ids", "image_id"),
        ("categories", "category_id"),
        ("crowd", "iscrowd"),
    ):
        if key in like.slots:
            found[name], certain = like.integers(key)
            good &= certain
        elif key != "iscrowd":
            return {}, np.zeros_like(good)
    if "bbox" in like.slots:
        start = like.start("bbox")
        first = like.signs(like.objects.after_space(start + 1))
        good &= (like.signs(start) == ord("[")) & (
            ((first >= ord("0")) & (first <= ord("9"))) | (first == ord("-"))
        )
    if "keypoints" in like.slots:
        found["visible"], certain = _visible_of(like)
        good &= certain
    found["usable"] = np.ones(len(like.rows), dtype=np.int64)
    if "segmentation" in like.slots:
        found["usable"], certain = _usable_of(like)
        good &= certain
    return found, good


def _visible_of(like: LikeObjects) -> tuple[Ints, Flags]:
    """Return the number of visible keypoints of each annotation, and whether it is certain."""
    objects = like.objects
    opens, closes = objects.brackets
    first, last, lists = like.lists("keypoints")
    good = lists == 1
    if not good.any():
        return np.zeros(len(good), dtype=np.int64), good
    open_, close = (edge[np.where(good, number, 0)] for edge, number in ((opens, first), (closes, last)))
    comma = np.searchsorted(objects.commas, open_)
    numbers = np.searchsorted(objects.commas, close) - comma + 1
    triples = np.where(good, numbers // 3, 0)
    where = np.repeat(np.arange(len(good)), triples)
    # The third number of each triple follows its second comma.
    third = spread(np.zeros_like(triples), triples) * 3 + 1 + comma[where]
    at = objects.after_space(objects.commas[third] + 1)
    sign, after = like.signs(at), like.signs(at + 1)
    positive = (sign >= ord("1")) & (sign <= ord("9"))
    certain = (
        positive
        | (sign == ord("-"))
        | ((sign == ord("0")) & (after != ord(".")) & (after != ord("e")) & (after != ord("E")))
    )
    good &= np.bincount(where[~certain], minlength=len(good)) == 0
    return np.bincount(where[positive], minlength=len(good)), good


def _usable_of(like: LikeObjects) -> tuple[Ints, Flags]:
    """Return whether some polygon of each annotation has 3 points, and whether that is certain."""
    objects = like.objects
    opens, closes = objects.brackets
    start = like.start("segmentation")
    first, last, lists = like.lists("segmentation")
    inside = objects.after_space(start + 1)
    none = (like.signs(start) == ord("n")) | ((lists == 1) & (like.signs(inside) == ord("]")))
    inner = np.where(lists > 1, lists - 1, 0)
    where = np.repeat(np.arange(len(inner)), inner)
    begin, end = opens[spread(first + 1, inner)], closes[spread(last, inner)]
    # Lists inside of polygons open before the one around them closes.
    nested = np.flatnonzero((begin[1:] < end[:-1]) & (where[1:] == where[:-1]))
    good = none | (lists > 1)
    good[where[nested]] = False
    starts_inside = np.ones_like(good)
    has = inner > 0
    starts_inside[has] = opens[first[has] + 1] == inside[has]
    commas = np.searchsorted(objects.commas, end) - np.searchsorted(objects.commas, begin)
    usable = np.bincount(where[(commas >= 5) & (commas % 2 == 1)], minlength=len(inner)) > 0
    return (usable | none).astype(np.int64), good & starts_inside


# ------------------------------------------------------------------ images
_NUMBERS = {"ids": "id", "heights": "height", "widths": "width"}


def image_columns(objects: JsonObjects) -> tuple[Columns, Ints]:
    """Return the columns of the images of a piece, with names in UTF-8, and the rows that have to be parsed."""
    count = len(objects.starts)
    table: Columns = {name: np.zeros(count, dtype=np.int64) for name in _NUMBERS}
    table["names"] = np.full(count, b"", dtype=np.object_)
    left = np.ones(count, dtype=np.bool_)
    for like in like_objects(objects):
        if not {*_NUMBERS.values(), "file_name"} <= set(like.slots):
            continue
        start, end, good = like.texts("file_name")
        for name, key in _NUMBERS.items():
            table[name][like.rows], certain = like.integers(key)
            good = good & certain
        places = zip(like.rows[good].tolist(), start[good].tolist(), end[good].tolist())
        for row, first, last in places:
            table["names"][row] = objects.piece[first:last]
        left[like.rows[good]] = False
    return table, np.flatnonzero(left)


def parsed_images(images: Sequence[Any], source: str) -> Columns:
    """Return the columns of parsed images.

    Raises:
        NotIndexable: one lacks a key, or a number is not an integer.
    """
    names = np.full(len(images), b"", dtype=np.object_)
    rows = []
    for number, entry in enumerate(images):
        try:
            row, name = tuple(entry[key] for key in _NUMBERS.values()), entry["file_name"]
        except (KeyError, TypeError) as error:
            raise NotIndexable(f"images: {error!r}") from error
        if not all(type(v) is int and abs(v) < 1 << 62 for v in row) or not isinstance(name, str):
            raise NotIndexable(f"images: {(*row, name)}")
        rows.append(row)
        names[number] = name.encode("utf-8", "surrogatepass")
    return _columns(tuple(_NUMBERS), rows) | {"names": names}
