"""DOTA: text files of rotated boxes, ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult``, in pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectron2.structures import BoxMode
from detectron2.utils.file_io.atomic import atomic_write

from ..image_finder import as_spelled
from .base import (
    Dataset,
    Format,
    FormatError,
    bbox_xyxy,
    copy_image,
    images_below,
    open_record,
    read_lines,
    register_format,
    rotated_box_of,
    rotated_corners,
    target_names,
)

__all__ = ["read_dota", "write_dota"]

_HEADERS = ("imagesource", "gsd", "acquisition")


def _folders(root: Path, images: str | None) -> tuple[Path, Path]:
    label_dir = next((root / n for n in ("labelTxt", "labels", "annfiles") if (root / n).is_dir()), root)
    image_dir = root / "images" if (root / "images").is_dir() else root
    return Path(images) if images else image_dir, label_dir


def _row(line: str) -> tuple[np.ndarray, str, int]:
    parts = line.split()
    corners = np.array([float(v) for v in parts[:8]])
    if len(corners) != 8 or len(parts) < 9 or not np.isfinite(corners).all():
        raise ValueError(f"expected 8 coordinates, a class and a difficulty, got {line[:80]!r}")
    return corners, parts[8], int(parts[9]) if len(parts) > 9 else 0


def _rows(file: Path, skipped: list[str]) -> list[tuple[np.ndarray, str, int]]:
    rows = []
    for number, line in read_lines(file):
        if line.lower().startswith(_HEADERS):
            continue
        try:
            rows.append(_row(line))
        except ValueError as error:
            skipped.append(f"{file}, line {number}: {error}")
    return rows


def read_dota(path: str, images: str | None = None, names: Sequence[str] | None = None) -> Dataset:
    """Read DOTA labels as rotated boxes; malformed lines are listed in ``skipped``.

    Args:
        path: folder with ``images`` and ``labelTxt``.
        images: folder of the images, if it is elsewhere.
        names: class names in the order of their numbers; default: those found, sorted.
    """
    image_dir, label_dir = _folders(Path(path), images)
    dataset = Dataset()
    found = images_below(image_dir)
    if not found:
        raise FormatError(f"no images below {image_dir}")
    rows: dict[str, list[tuple[np.ndarray, str, int]]] = {}
    for key in found:
        file = as_spelled(label_dir / f"{key}.txt")
        try:
            rows[key] = _rows(file, dataset.skipped) if file.is_file() else []
        except ValueError as error:
            dataset.skipped.append(str(error))
    if names is None:
        names = sorted({name for lines in rows.values() for _, name, _ in lines})
    numbers = {n: i for i, n in enumerate(names)}
    dataset.metadata["thing_classes"] = list(numbers)
    for key, lines in rows.items():
        record = open_record(dataset, found[key], key)
        if record is None:
            continue
        for corners, name, difficult in lines:
            if name not in numbers:
                dataset.skipped.append(
                    f"{label_dir / key}.txt: class {name!r} is not among {', '.join(numbers)}"
                )
                continue
            record["annotations"].append(
                {
                    "category_id": numbers[name],
                    "bbox": rotated_box_of(corners),
                    "bbox_mode": BoxMode.XYWHA_ABS,
                    "iscrowd": 0,
                    "difficult": difficult,
                }
            )
        dataset.records.append(record)
    return dataset


def _corners(anno: dict[str, Any]) -> np.ndarray:
    if len(anno["bbox"]) == 5:
        return rotated_corners(anno["bbox"])
    x0, y0, x1, y1 = bbox_xyxy(anno)
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def write_dota(dataset: Dataset, folder: str, copy_images: bool = True) -> None:
    """Write ``labelTxt`` and copies of the images in ``images``.

    Args:
        dataset: data to write; upright boxes become rotated ones of angle 0. Spaces in class names become ``-``.
        folder: target folder.
        copy_images: false writes the labels only.
    """
    root = Path(folder)
    classes = [c.replace(" ", "-") for c in dataset.classes]
    for record, name in zip(dataset.records, target_names(dataset)):
        with atomic_write(root / "labelTxt" / f"{name}.txt") as f:
            for anno in record.get("annotations", ()):
                numbers = " ".join(f"{v:.8g}" for v in _corners(anno).reshape(-1))
                f.write(f"{numbers} {classes[anno['category_id']]} {int(anno.get('difficult', 0))}\n")
        if copy_images:
            copy_image(record, root / "images", name + Path(record["file_name"]).suffix)


def _detect(path: Path) -> bool:
    if any((path / n).is_dir() for n in ("labelTxt", "annfiles")):
        return True
    first = next(iter(sorted(path.glob("*.txt"))), None) if path.is_dir() else None
    if first is None:
        return False
    try:
        lines = list(read_lines(first))
    except (ValueError, OSError):
        return False
    rows = [line.split() for _, line in lines if not line.lower().startswith(_HEADERS)]
    return bool(rows) and all(len(r) in (9, 10) and not r[8].replace(".", "").isdigit() for r in rows)


register_format(Format("dota", "DOTA text files of rotated boxes", read_dota, write_dota, _detect))
