"""LabelMe: one JSON file of shapes per image."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectron2.structures import BoxMode
from detectron2.utils.atomic import atomic_write

from .base import (
    Dataset,
    Format,
    FormatError,
    bbox_xyxy,
    box_of_points,
    find_image,
    new_record,
    polygons_of,
    register_format,
    target_names,
)

__all__ = ["read_labelme", "write_labelme"]

_CIRCLE_POINTS = 64


def _content(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise FormatError(f"{file} is no whole JSON file: {error}") from error


def _outline(shape: Mapping[str, Any], where: str) -> tuple[list[float], bool]:
    """Return the outline of a shape, and whether it is more than a box."""
    points = np.asarray(shape["points"], dtype=float).reshape(-1, 2)
    kind = shape.get("shape_type") or "polygon"
    if kind == "rectangle" and len(points) in (2, 4):
        x0, y0, x1, y1 = box_of_points(points)
        return [x0, y0, x1, y0, x1, y1, x0, y1], False
    if kind == "circle" and len(points) == 2:
        turn = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        return (points[0] + radius * np.stack([np.cos(turn), np.sin(turn)], 1)).reshape(-1).tolist(), True
    if kind == "polygon" and len(points) >= 3:
        return points.reshape(-1).tolist(), True
    raise FormatError(f"{where}: a {kind} with {len(points)} points")


def _annotations(
    content: Mapping[str, Any], file: Path, numbers: Mapping[str, int], skipped: list[str]
) -> list[dict[str, Any]]:
    """Turn shapes into annotations; shapes of one label and group are parts of one object."""
    objects: dict[Any, dict[str, Any]] = {}
    for position, shape in enumerate(content["shapes"]):
        where = f"{file}, shape {position}"
        if shape.get("shape_type") in ("point", "line", "linestrip", "points"):
            skipped.append(f"{where}: a {shape['shape_type']} is no region")
            continue
        outline, region = _outline(shape, where)
        group = shape.get("group_id")
        key = (shape["label"], group) if group is not None else position
        made = objects.setdefault(
            key, {"category_id": numbers[shape["label"]], "iscrowd": 0, "_parts": [], "_region": False}
        )
        made["_parts"].append(outline)
        made["_region"] |= region
    for made in objects.values():
        parts, region = made.pop("_parts"), made.pop("_region")
        made["bbox"] = box_of_points(np.concatenate([np.reshape(p, (-1, 2)) for p in parts]))
        made["bbox_mode"] = BoxMode.XYXY_ABS
        if region or len(parts) > 1:
            made["segmentation"] = parts
    return list(objects.values())


def read_labelme(path: str, images: str | None = None, names: Sequence[str] | None = None) -> Dataset:
    """Read a folder of LabelMe files.

    Polygons, rectangles and circles become objects; rectangles have no segmentation. Shapes that share a label and
    a ``group_id`` are one object. Points and lines are named in ``skipped``.

    Args:
        path: folder with JSON files.
        images: folder of the images, if it lies elsewhere.
        names: names of the classes in the order of their numbers; default: those found, sorted.
    """
    root = Path(path)
    contents = {
        f: c for f in sorted(root.rglob("*.json")) if isinstance(c := _content(f), dict) and "shapes" in c
    }
    if not contents:
        raise FormatError(f"no LabelMe files below {root}")
    if names is None:
        names = sorted({s["label"] for c in contents.values() for s in c["shapes"]})
    numbers = {n: i for i, n in enumerate(names)}
    dataset = Dataset(metadata={"thing_classes": list(numbers)})
    for file, content in contents.items():
        folder = Path(images) if images else file.parent
        unknown = {s["label"] for s in content["shapes"]} - set(numbers)
        if unknown:
            raise FormatError(f"{file}: labels {sorted(unknown)} are not among {', '.join(numbers)}")
        image = find_image(folder, content.get("imagePath") or file.stem) or find_image(folder, file.stem)
        if image is None:
            dataset.skipped.append(f"{file}: its image {content.get('imagePath')!r} is not in {folder}")
            continue
        record = new_record(image, file.relative_to(root).with_suffix("").as_posix())
        record["annotations"] = _annotations(content, file, numbers, dataset.skipped)
        dataset.records.append(record)
    return dataset


def _shapes(record: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    shapes = []
    for number, anno in enumerate(record.get("annotations", ())):
        base = {"label": classes[anno["category_id"]], "group_id": None, "flags": {}}
        if anno.get("segmentation") is None:
            x0, y0, x1, y1 = bbox_xyxy(anno)
            shapes.append({**base, "shape_type": "rectangle", "points": [[x0, y0], [x1, y1]]})
            continue
        parts = polygons_of(anno["segmentation"], record["height"], record["width"])
        group = number if len(parts) > 1 else None
        for part in parts:
            points = np.reshape(part, (-1, 2)).tolist()
            shapes.append({**base, "group_id": group, "shape_type": "polygon", "points": points})
    return shapes


def write_labelme(dataset: Dataset, folder: str, copy_images: bool = True) -> None:
    """Write a LabelMe file per image, with copies of the images beside them.

    Args:
        dataset: what to write.
        folder: where to.
        copy_images: false writes the labels only.
    """
    root = Path(folder)
    for record, name in zip(dataset.records, target_names(dataset)):
        image_name = name + Path(record["file_name"]).suffix
        content = {
            "version": "5.0.0", "flags": {}, "shapes": _shapes(record, dataset.classes), "imagePath": image_name,
            "imageData": None, "imageHeight": record["height"], "imageWidth": record["width"],
        }  # fmt: skip
        with atomic_write(root / f"{name}.json") as f:
            json.dump(content, f)
        if copy_images:
            shutil.copyfile(record["file_name"], root / image_name)


def _detect(path: Path) -> bool:
    first = next(iter(sorted(path.glob("*.json"))), None) if path.is_dir() else None
    return first is not None and '"shapes"' in first.read_text(encoding="utf-8", errors="replace")


register_format(Format("labelme", "LabelMe JSON files", read_labelme, write_labelme, _detect))
