"""YOLO text files: one line per object, coordinates as fractions of width and height.

=============  ==========================================================
task           numbers of a line
=============  ==========================================================
``detect``     class, centre x, centre y, width, height
``segment``    class, then x and y of each point of the outline; parts of an object are joined by zero-width bridges
``pose``       box as above, then x, y (and visibility 0..2) of each keypoint
``obb``        class, then x and y of 4 corners
=============  ==========================================================

The folder holds ``images`` and ``labels`` side by side (with splits below them), and optionally ``data.yaml`` with
``names``, ``kpt_shape`` and ``flip_idx``. An image without a label file is background.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from detectron2.structures import BoxMode
from detectron2.utils.file_io.atomic import atomic_write

from .base import (
    Dataset,
    Format,
    FormatError,
    bbox_xyxy,
    box_of_points,
    copy_image,
    open_record,
    polygons_of,
    read_lines,
    register_format,
    rotated_box_of,
    rotated_corners,
    target_names,
)
from .yolo_files import MOST_CLASSES, Setup, is_yolo, label_pairs, parts_of, read_setup

__all__ = ["read_yolo", "write_yolo"]

TASKS = ("detect", "segment", "pose", "obb")


def guess_task(rows: Sequence[Sequence[float]], settings: Mapping[str, Any]) -> str:
    """Guess the task from the number of values per line."""
    if "kpt_shape" in settings:
        return "pose"
    lengths = Counter(len(r) for r in rows)
    outlines = sum(n for length, n in lengths.items() if length >= 7 and length % 2)
    if outlines == 0 and (lengths[5] or not lengths):
        return "detect"
    if outlines and set(lengths) == {9}:
        raise FormatError(
            "lines of 9 numbers are corners of rotated boxes or outlines of 4 points: set task='obb' or task='segment' "
            "(--task on the command line)"
        )
    if outlines:
        return "segment"
    raise FormatError(
        f"lines of {sorted(lengths)} numbers fit no task; for keypoints add kpt_shape to data.yaml"
    )


def _numbers(file: Path, skipped: list[str]) -> list[tuple[int, list[float]]]:
    rows = []
    for number, line in read_lines(file):
        try:
            values = [float(v) for v in line.split()]
            if len(values) < 5 or not all(map(math.isfinite, values)) or values[0] < 0 or values[0] % 1:
                raise ValueError
        except ValueError:
            skipped.append(
                f"{file}, line {number}: expected a class number and at least 4 coordinates, got {line[:80]!r}"
            )
            continue
        rows.append((number, values))
    return rows


def _rows(
    pairs: Mapping[str, tuple[Path, Path]], skipped: list[str]
) -> dict[str, list[tuple[int, list[float]]]]:
    """Read the label files; images with an unreadable label file are left out."""
    rows = {}
    for key, (_, file) in pairs.items():
        try:
            rows[key] = _numbers(file, skipped) if file.is_file() else []
        except ValueError as error:
            skipped.append(str(error))
    return rows


def read_yolo(
    path: str,
    images: str | None = None,
    task: str | None = None,
    names: Sequence[str] | None = None,
    split: str | None = None,
) -> Dataset:
    """Read YOLO labels.

    Args:
        path: ``data.yaml`` or ``obj.data``, the folder with it, one with ``images`` and ``labels``, or a split below
            ``images``.
        images: folder of the images, if it is elsewhere.
        task: one of ``detect``, ``segment``, ``pose``, ``obb``; default: guessed from the lines.
        names: class names; default: from ``data.yaml`` or ``classes.txt``, else numbers.
        split: ``train``, ``val`` or ``test`` of the settings, or of the folders below ``images``; default: all images.

    Raises:
        FormatError: no line can be read. Single malformed lines are listed in ``skipped``.
    """
    setup = read_setup(Path(path))
    dataset = Dataset()
    pairs = label_pairs(setup, images, split)
    rows = _rows(pairs, dataset.skipped)
    every = [values for lines in rows.values() for _, values in lines]
    if dataset.skipped and not every:
        raise FormatError("\n".join([f"{setup.root} has no readable line", *dataset.skipped[:5]]))
    task = task or guess_task(every, setup.values)
    if task not in TASKS:
        raise FormatError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    shape = _keypoint_shape(setup)
    known = list(names) if names is not None else setup.names
    if known is None:
        most = max((int(v[0]) for v in every if v[0] < MOST_CLASSES), default=-1)
        known = [str(i) for i in range(most + 1)]
    for key, lines in rows.items():
        image, file = pairs[key]
        record = open_record(dataset, image, key)
        if record is None:
            continue
        for number, values in lines:
            try:
                if values[0] >= len(known):
                    raise ValueError(f"class number {values[0]:.0f}, but only {len(known)} names")
                record["annotations"].append(_annotation(values, record, task, shape))
            except ValueError as error:
                dataset.skipped.append(f"{file}, line {number}: {error}")
        dataset.records.append(record)
    dataset.metadata["thing_classes"] = known
    if task == "pose":
        dataset.metadata |= _keypoint_metadata(setup.values, shape[0])
    return dataset


def _keypoint_shape(setup: Setup) -> tuple[int, int]:
    shape = setup.values.get("kpt_shape") or (0, 3)
    try:
        count, per = (*map(int, shape), 3)[:2]
    except (TypeError, ValueError):
        count, per = -1, 0
    if count < 0 or per not in (2, 3):
        raise FormatError(f"{setup.file}: kpt_shape must be [number of keypoints, 2 or 3], got {shape!r}")
    return count, per


def _keypoint_metadata(settings: Mapping[str, Any], count: int) -> dict[str, Any]:
    names = [f"keypoint_{i}" for i in range(count)]
    flips = settings.get("flip_idx")
    if not isinstance(flips, list) or sorted(map(str, flips)) != sorted(map(str, range(count))):
        flips = list(range(count))
    return {
        "keypoint_names": names,
        "keypoint_flip_map": [(names[i], names[int(j)]) for i, j in enumerate(flips) if i < int(j)],
    }


def _annotation(
    values: list[float], record: Mapping[str, Any], task: str, shape: tuple[int, int]
) -> dict[str, Any]:
    """Convert the numbers of a line to an annotation; raise ValueError if they do not fit the task."""
    width, height = record["width"], record["height"]
    anno: dict[str, Any] = {"category_id": int(values[0]), "iscrowd": 0, "bbox_mode": BoxMode.XYXY_ABS}
    rest = np.array(values[1:])
    if task in ("segment", "obb") and len(rest) > 4:
        if len(rest) % 2 or len(rest) < 6 or (task == "obb" and len(rest) != 8):
            raise ValueError(f"{len(rest)} coordinates do not fit task {task!r}")
        points = rest.reshape(-1, 2) * [width, height]
        if task == "obb":
            return anno | {"bbox": rotated_box_of(points), "bbox_mode": BoxMode.XYWHA_ABS}
        return anno | {"bbox": box_of_points(points), "segmentation": [points.reshape(-1).tolist()]}
    if task == "detect" and len(rest) == 5:
        raise ValueError("5 coordinates; a confidence at the end belongs to predictions, not to labels")
    if task == "obb" or (task == "detect" and len(rest) != 4):
        raise ValueError(f"{len(rest)} coordinates do not fit task {task!r}")
    x, y, w, h = rest[:4] * [width, height, width, height]
    anno["bbox"] = [float(x - w / 2), float(y - h / 2), float(x + w / 2), float(y + h / 2)]
    if task == "pose":
        count, per = shape
        if len(rest) != 4 + count * per:
            raise ValueError(
                f"expected 4 + {count} × {per} numbers for kpt_shape {list(shape)}, got {len(rest)}"
            )
        points = rest[4:].reshape(count, per)
        seen = points[:, 2] if per == 3 else 2.0 * (points[:, :2] != 0).any(1)
        xy = points[:, :2] * [width, height] * (seen > 0)[:, None]
        anno["keypoints"] = np.concatenate([xy, seen[:, None]], 1).reshape(-1).tolist()
    return anno


# ------------------------------------------------------------------ writing
def _task_of(dataset: Dataset) -> str:
    annotations = [a for r in dataset.records for a in r.get("annotations", ())]
    if any("keypoints" in a for a in annotations):
        return "pose"
    if any(len(a["bbox"]) == 5 for a in annotations):
        return "obb"
    return "segment" if any(a.get("segmentation") is not None for a in annotations) else "detect"


def one_outline(parts: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Join several polygons into one outline, as YOLO requires.

    Bridges between the nearest points are traversed in both directions and have no area, so that the outline covers
    the same pixels as the parts.

    Args:
        parts: each [N, 2].
    """
    left = list(parts)
    outline = left.pop(0)
    while left:
        gaps = [np.linalg.norm(outline[:, None] - part[None], axis=2) for part in left]
        nearest = min(range(len(left)), key=lambda k: gaps[k].min())
        here, there = np.unravel_index(gaps[nearest].argmin(), gaps[nearest].shape)
        around = np.roll(left.pop(nearest), -int(there), axis=0)
        outline = np.concatenate([outline[: here + 1], around, around[:1], outline[here:]])
    return outline


def _lines(record: Mapping[str, Any], task: str, skipped: list[str]) -> list[str]:
    height, width = record["height"], record["width"]
    lines = []
    for position, anno in enumerate(record.get("annotations", ())):
        if anno.get("iscrowd"):
            skipped.append(f"{record['file_name']}, annotation {position}: YOLO has no crowd regions")
            continue
        numbers: list[Any]
        if task == "obb":
            box = anno["bbox"] if len(anno["bbox"]) == 5 else [*_xywh(anno), 0.0]
            numbers = (rotated_corners(box) / [width, height]).reshape(-1).tolist()
        elif task == "segment" and anno.get("segmentation") is not None:
            parts = polygons_of(anno["segmentation"], height, width)
            outline = one_outline([np.reshape(p, (-1, 2)) for p in parts])
            numbers = (outline / [width, height]).reshape(-1).tolist()
        else:
            x, y, w, h = _xywh(anno)
            numbers = [x / width, y / height, w / width, h / height]
        if task == "pose":
            points = np.asarray(anno["keypoints"], dtype=float).reshape(-1, 3) / [width, height, 1]
            numbers += points.reshape(-1).tolist()
        lines.append(" ".join([str(int(anno["category_id"])), *(f"{v:.8g}" for v in numbers)]))
    return lines


def _xywh(anno: Mapping[str, Any]) -> list[float]:
    x0, y0, x1, y1 = bbox_xyxy(anno)
    return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]


def write_yolo(dataset: Dataset, folder: str, task: str | None = None, copy_images: bool = True) -> None:
    """Write YOLO labels, ``data.yaml`` and copies of the images.

    Args:
        dataset: data to write; what YOLO cannot represent is added to its ``skipped``.
        folder: target folder.
        task: one of ``detect``, ``segment``, ``pose``, ``obb``; default: chosen by the annotations.
        copy_images: false writes the labels only.
    """
    task = task or _task_of(dataset)
    root = Path(folder)
    for record, name in zip(dataset.records, target_names(dataset)):
        with atomic_write(root / "labels" / f"{name}.txt") as f:
            f.writelines(line + "\n" for line in _lines(record, task, dataset.skipped))
        if copy_images:
            copy_image(record, root / "images", name + Path(record["file_name"]).suffix)
    settings: dict[str, Any] = {
        "path": ".",
        "train": "images",
        "val": "images",
        "names": dict(enumerate(dataset.classes)),
    }
    if task == "pose":
        names = list(dataset.metadata.get("keypoint_names", []))
        count = len(names) or max(
            (len(a["keypoints"]) // 3 for r in dataset.records for a in r["annotations"]), default=0
        )
        swap = {a: b for pair in dataset.metadata.get("keypoint_flip_map", ()) for a, b in (pair, pair[::-1])}
        settings["kpt_shape"] = [count, 3]
        if names:
            settings["flip_idx"] = [names.index(swap.get(n, n)) for n in names]
    with atomic_write(root / "data.yaml") as f:
        yaml.safe_dump(settings, f, sort_keys=False, allow_unicode=True)


register_format(
    Format(
        "yolo",
        "YOLO text files (boxes, outlines, keypoints, rotated boxes)",
        read_yolo,
        write_yolo,
        is_yolo,
        parts_of,
    )
)
