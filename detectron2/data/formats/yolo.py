"""YOLO text files: one line per object, coordinates as shares of width and height.

=============  ==========================================================
task           numbers of a line
=============  ==========================================================
``detect``     class, centre x, centre y, width, height
``segment``    class, then x and y of each point of the outline; parts of an object are joined by bridges there and back
``pose``       box as above, then x, y (and visibility 0..2) of each keypoint
``obb``        class, then x and y of 4 corners
=============  ==========================================================

The folder holds ``images`` and ``labels`` side by side (with splits below them), and optionally ``data.yaml`` with
``names``, ``kpt_shape`` and ``flip_idx``. An image without a label file is background.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from detectron2.structures import BoxMode
from detectron2.utils.atomic import atomic_write

from .base import (
    Dataset,
    Format,
    FormatError,
    bbox_xyxy,
    box_of_points,
    images_below,
    new_record,
    polygons_of,
    read_lines,
    register_format,
    rotated_box_of,
    rotated_corners,
    target_names,
)

__all__ = ["read_yolo", "write_yolo"]

TASKS = ("detect", "segment", "pose", "obb")


def _settings(root: Path) -> dict[str, Any]:
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        for folder in (root, *list(root.parents)[:2]):
            if (folder / name).is_file():
                return yaml.safe_load((folder / name).read_text(encoding="utf-8")) or {}
    return {}


def _names(settings: Mapping[str, Any], root: Path) -> list[str] | None:
    names = settings.get("names")
    if isinstance(names, Mapping):
        return [str(names[i]) for i in sorted(names)]
    if names is not None:
        return [str(n) for n in names]
    for file in (root / "classes.txt", root / "labels" / "classes.txt"):
        if file.is_file():
            return [line for _, line in read_lines(file)]
    return None


def _folders(root: Path, images: Path | None) -> tuple[Path, Path]:
    """Return the folders of images and labels, for a root with both or for one of the two."""
    if images is not None:
        return Path(images), root / "labels" if (root / "labels").is_dir() else root
    if (root / "images").is_dir():
        return root / "images", root / "labels"
    parts = list(root.parts)
    if "images" in parts:
        at = len(parts) - 1 - parts[::-1].index("images")
        return root, Path(*parts[:at], "labels", *parts[at + 1 :])
    return root, root


def guess_task(rows: Sequence[Sequence[float]], settings: Mapping[str, Any]) -> str:
    """Guess the task that fits lines of numbers."""
    if "kpt_shape" in settings:
        return "pose"
    lengths = {len(r) for r in rows}
    if lengths <= {5}:
        return "detect"
    if lengths == {9}:
        raise FormatError(
            "lines of 9 numbers are corners of rotated boxes or outlines of 4 points: say task='obb' or task='segment'"
        )
    if all((n >= 7 and n % 2 == 1) or n == 5 for n in lengths):
        return "segment"
    raise FormatError(
        f"lines of {sorted(lengths)} numbers fit no task; for keypoints add kpt_shape to data.yaml"
    )


def _numbers(file: Path) -> list[tuple[int, list[float]]]:
    rows = []
    for number, line in read_lines(file):
        try:
            values = [float(v) for v in line.split()]
        except ValueError:
            raise FormatError(f"{file}, line {number}: not all numbers: {line!r}") from None
        if (
            len(values) < 5
            or values[0] != int(values[0])
            or values[0] < 0
            or not all(map(math.isfinite, values))
        ):
            raise FormatError(
                f"{file}, line {number}: expected a class number and at least 4 coordinates, got {line!r}"
            )
        rows.append((number, values))
    return rows


def read_yolo(
    path: str, images: str | None = None, task: str | None = None, names: Sequence[str] | None = None
) -> Dataset:
    """Read YOLO labels.

    Args:
        path: the folder with ``images`` and ``labels``, or a split below ``images``.
        images: folder of the images, if it lies elsewhere.
        task: one of ``detect``, ``segment``, ``pose``, ``obb``; default: found from the lines.
        names: names of the classes; default: from ``data.yaml`` or ``classes.txt``, else numbers.

    Raises:
        FormatError: a line does not fit.
    """
    root = Path(path)
    if root.is_file():
        root = root.parent
    settings = _settings(root)
    image_dir, label_dir = _folders(root, Path(images) if images else None)
    found = images_below(image_dir)
    if not found:
        raise FormatError(f"no images below {image_dir}")
    rows = {key: _numbers(file) if (file := label_dir / f"{key}.txt").is_file() else [] for key in found}
    every = [values for lines in rows.values() for _, values in lines]
    task = task or guess_task(every, settings)
    if task not in TASKS:
        raise FormatError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    shape = tuple(settings.get("kpt_shape", (0, 3)))
    dataset = Dataset()
    for key, image in found.items():
        record = new_record(image, key)
        for number, values in rows[key]:
            record["annotations"].append(
                _annotation(values, record, task, shape, f"{label_dir / key}.txt, line {number}")
            )
        dataset.records.append(record)
    known = list(names) if names is not None else _names(settings, root)
    highest = max((int(v[0]) for v in every), default=-1)
    if known is None:
        known = [str(i) for i in range(highest + 1)]
    if highest >= len(known):
        raise FormatError(f"{root}: class number {highest}, but only {len(known)} names")
    dataset.metadata["thing_classes"] = known
    if task == "pose":
        dataset.metadata |= _keypoint_metadata(settings, shape[0])
    return dataset


def _keypoint_metadata(settings: Mapping[str, Any], count: int) -> dict[str, Any]:
    names = [f"keypoint_{i}" for i in range(count)]
    flips = settings.get("flip_idx", range(count))
    return {
        "keypoint_names": names,
        "keypoint_flip_map": [(names[i], names[j]) for i, j in enumerate(flips) if i < j],
    }


def _annotation(
    values: list[float], record: Mapping[str, Any], task: str, shape: tuple[int, ...], where: str
) -> dict[str, Any]:
    width, height = record["width"], record["height"]
    anno: dict[str, Any] = {"category_id": int(values[0]), "iscrowd": 0, "bbox_mode": BoxMode.XYXY_ABS}
    rest = np.array(values[1:])
    if task in ("segment", "obb") and len(rest) > 4:
        if len(rest) % 2 or len(rest) < 6 or (task == "obb" and len(rest) != 8):
            raise FormatError(f"{where}: {len(rest)} coordinates do not fit task {task!r}")
        points = rest.reshape(-1, 2) * [width, height]
        if task == "obb":
            return anno | {"bbox": rotated_box_of(points), "bbox_mode": BoxMode.XYWHA_ABS}
        return anno | {"bbox": box_of_points(points), "segmentation": [points.reshape(-1).tolist()]}
    if task == "obb" or (task == "detect" and len(rest) != 4):
        raise FormatError(f"{where}: {len(rest)} coordinates do not fit task {task!r}")
    x, y, w, h = rest[:4] * [width, height, width, height]
    anno["bbox"] = [float(x - w / 2), float(y - h / 2), float(x + w / 2), float(y + h / 2)]
    if task == "pose":
        count, per = shape[0], shape[1] if len(shape) > 1 else 3
        if len(rest) != 4 + count * per:
            raise FormatError(
                f"{where}: expected 4 + {count} × {per} numbers for kpt_shape {list(shape)}, got {len(rest)}"
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
    """Join several polygons into one line, as YOLO needs it: it visits each part and returns the same way.

    Such a bridge has no area, so that the outline covers what the parts cover. It leads between the nearest points.

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
        dataset: what to write; what YOLO cannot hold is added to its ``skipped``.
        folder: gets ``images``, ``labels`` and ``data.yaml``.
        task: default: by what the records have.
        copy_images: false writes the labels only.
    """
    task = task or _task_of(dataset)
    root = Path(folder)
    for record, name in zip(dataset.records, target_names(dataset)):
        with atomic_write(root / "labels" / f"{name}.txt") as f:
            f.writelines(line + "\n" for line in _lines(record, task, dataset.skipped))
        if copy_images:
            (root / "images").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(record["file_name"], root / "images" / (name + Path(record["file_name"]).suffix))
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


def _detect(path: Path) -> bool:
    root = path.parent if path.is_file() else path
    if not root.is_dir():
        return False
    return ((root / "labels").is_dir() and any((root / "labels").rglob("*.txt"))) or (
        "images" in root.parts and any(_folders(root, None)[1].rglob("*.txt"))
        if root.name != "images" or root.exists()
        else False
    )


register_format(
    Format(
        "yolo", "YOLO text files (boxes, outlines, keypoints, rotated boxes)", read_yolo, write_yolo, _detect
    )
)
