"""Classes, colours and keypoints of the built-in data sets; the tables are read on first use.

Facts of COCO (https://cocodataset.org), LVIS (https://www.lvisdataset.org), Cityscapes
(https://www.cityscapes-dataset.com) and ADE20K's scene parsing benchmark (http://sceneparsing.csail.mit.edu).
"""

import functools
import json
from importlib import resources
from typing import Any

from detectron2.utils.errors import UnknownNameError

__all__ = [
    "ADE20K_SEM_SEG_CATEGORIES",
    "CITYSCAPES_CATEGORIES",
    "COCO_CATEGORIES",
    "COCO_PERSON_KEYPOINT_FLIP_MAP",
    "COCO_PERSON_KEYPOINT_NAMES",
    "KEYPOINT_CONNECTION_RULES",
]

# Filled by __getattr__.
ADE20K_SEM_SEG_CATEGORIES: list[str]
CITYSCAPES_CATEGORIES: list[dict[str, Any]]
COCO_CATEGORIES: list[dict[str, Any]]
COCO_PERSON_KEYPOINT_FLIP_MAP: tuple[tuple[str, str], ...]
COCO_PERSON_KEYPOINT_NAMES: tuple[str, ...]
COCO_PERSON_KEYPOINT_OKS_SIGMAS: list[float]
KEYPOINT_CONNECTION_RULES: list[tuple[str, str, tuple[int, int, int]]]

# Colour of the one semantic class that covers all things in separated panoptic data.
_THINGS_COLOR = [82, 18, 128]


@functools.cache
def read_table(name: str) -> dict[str, Any]:
    """Return a table of the package by name; callers must not modify it."""
    text = resources.files(__package__).joinpath("_tables", f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)


@functools.cache
def category_rows(name: str) -> list[dict[str, Any]]:
    """Return the categories of a table, one dict each."""
    table = read_table(name)
    return [dict(zip(table["columns"], row)) for row in table["categories"]]


def _coco(key: str) -> list[Any]:
    return read_table("coco")[key]


_LAZY = {
    "COCO_CATEGORIES": lambda: category_rows("coco"),
    "COCO_PERSON_KEYPOINT_NAMES": lambda: tuple(_coco("keypoint_names")),
    "COCO_PERSON_KEYPOINT_FLIP_MAP": lambda: tuple(map(tuple, _coco("keypoint_flip_map"))),
    "KEYPOINT_CONNECTION_RULES": lambda: [(a, b, tuple(c)) for a, b, c in _coco("keypoint_connection_rules")],
    "COCO_PERSON_KEYPOINT_OKS_SIGMAS": lambda: list(_coco("keypoint_oks_sigmas")),
    "CITYSCAPES_CATEGORIES": lambda: category_rows("cityscapes"),
    "ADE20K_SEM_SEG_CATEGORIES": lambda: list(read_table("ade20k")["stuff_classes"]),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, _LAZY[name]())


def _coco_things() -> list[dict[str, Any]]:
    return [c for c in category_rows("coco") if c["isthing"]]


def _coco_stuff() -> list[dict[str, Any]]:
    return [c for c in category_rows("coco") if not c["isthing"]]


def _numbered(rows: list[dict[str, Any]], start: int = 0, key: str = "id") -> dict[int, int]:
    return {row[key]: number for number, row in enumerate(rows, start)}


def _get_coco_instances_meta() -> dict[str, Any]:
    """Return the 80 things of COCO."""
    things = _coco_things()
    return {
        "thing_dataset_id_to_contiguous_id": _numbered(things),
        "thing_classes": [c["name"] for c in things],
        "thing_colors": [c["color"] for c in things],
    }


def _get_coco_panoptic_separated_meta() -> dict[str, Any]:
    """Return 80 thing classes and, numbered separately, one class for all things followed by 53 stuff classes."""
    stuff = _coco_stuff()
    return {
        "stuff_dataset_id_to_contiguous_id": {**_numbered(stuff, start=1), 0: 0},
        "stuff_classes": ["things", *(c["name"].replace("-other", "").replace("-merged", "") for c in stuff)],
        "stuff_colors": [_THINGS_COLOR, *(c["color"] for c in stuff)],
        **_get_coco_instances_meta(),
    }


def _get_coco_panoptic_standard_meta() -> dict[str, Any]:
    """Return 133 classes in one numbering; things and stuff share one list, so that either can draw a map."""
    things, stuff = _coco_things(), _coco_stuff()
    both = category_rows("coco")
    names, colors = [c["name"] for c in both], [c["color"] for c in both]
    return {
        "thing_classes": names,
        "thing_colors": colors,
        "stuff_classes": names,
        "stuff_colors": colors,
        "thing_dataset_id_to_contiguous_id": _numbered(things),
        "stuff_dataset_id_to_contiguous_id": _numbered(stuff, start=len(things)),
    }


def _get_coco_person_meta() -> dict[str, Any]:
    """Return one class with 17 keypoints."""
    return {
        "thing_classes": ["person"],
        **{
            key: list(_coco(key))
            for key in ("keypoint_names", "keypoint_flip_map", "keypoint_connection_rules")
        },
    }


def _get_cityscapes_meta() -> dict[str, Any]:
    """Return 8 classes for instances, 19 for semantic labels."""
    rows = category_rows("cityscapes")
    return {
        "thing_classes": [c["name"] for c in rows if c["isthing"]],
        "stuff_classes": [c["name"] for c in rows],
    }


def _get_cityscapes_panoptic_meta() -> dict[str, Any]:
    """Return 19 classes numbered by their training id."""
    rows = category_rows("cityscapes")
    names, colors = [c["name"] for c in rows], [c["color"] for c in rows]
    return {
        "thing_classes": names,
        "thing_colors": colors,
        "stuff_classes": names,
        "stuff_colors": colors,
        "thing_dataset_id_to_contiguous_id": {c["id"]: c["trainId"] for c in rows if c["isthing"]},
        "stuff_dataset_id_to_contiguous_id": {c["id"]: c["trainId"] for c in rows if not c["isthing"]},
        "ignore_label": 255,
        "label_divisor": 1000,
    }


_BUILTIN = {
    "coco": _get_coco_instances_meta,
    "coco_panoptic_separated": _get_coco_panoptic_separated_meta,
    "coco_panoptic_standard": _get_coco_panoptic_standard_meta,
    "coco_person": _get_coco_person_meta,
    "cityscapes": _get_cityscapes_meta,
}


def _get_builtin_metadata(dataset_name: str) -> dict[str, Any]:
    """Return the metadata of ``coco``, ``coco_panoptic_separated``, ``coco_panoptic_standard``, ``coco_person`` or
    ``cityscapes``.

    Raises:
        KeyError: the name is none of these.
    """
    if dataset_name not in _BUILTIN:
        raise UnknownNameError(f"no built-in metadata for {dataset_name!r}; there are: {', '.join(_BUILTIN)}")
    return _BUILTIN[dataset_name]()
