"""LabelMe: one JSON file of shapes per image."""

import base64
import contextlib
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from detectron2.structures import BoxMode
from detectron2.structures.rle import encode, mask_box
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.text import read_json, read_text
from detectron2.utils.image_io import READ_ERRORS

from ..image_finder import ImageFinder, files_below
from .base import (
    Dataset,
    Format,
    FormatError,
    bbox_xyxy,
    box_of_points,
    copy_image,
    note_images,
    open_record,
    polygons_of,
    register_format,
    target_names,
)

__all__ = ["read_labelme", "write_labelme"]

_CIRCLE_POINTS = 64
_NO_REGIONS = ("point", "line", "linestrip", "points")


def _content(file: Path) -> dict[str, Any] | None:
    """Return the content of a LabelMe file; None for JSON of another kind.

    Raises:
        FormatError: it cannot be read.
    """
    content = read_json(file)
    if not isinstance(content, dict) or "shapes" not in content:
        return None
    if not isinstance(content["shapes"], list):
        raise FormatError(f"{file}: 'shapes' is not a list")
    return content


def _mask_segmentation(
    shape: Mapping[str, Any], points: npt.NDArray[np.float64], size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Return the image-sized mask of a shape that consists of two corners and a PNG."""
    with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
        part = np.asarray(image.convert("L")) > 0
    left, top = np.round(points.min(0)).astype(int)
    whole = np.zeros(size, bool)
    y0, x0 = max(top, 0), max(left, 0)
    target = whole[y0 : max(top + part.shape[0], 0), x0 : max(left + part.shape[1], 0)]
    target[:] = part[y0 - top :, x0 - left :][: target.shape[0], : target.shape[1]]
    if not whole.any():
        raise ValueError("a mask without a pixel")
    return whole


def _region(shape: Mapping[str, Any], size: tuple[int, int]) -> tuple[list[float], Any, bool]:
    """Return the box of a shape, its outline or mask, and whether it is more than a box.

    Raises:
        ValueError: the shape cannot be read.
    """
    points = np.asarray(shape["points"], dtype=float).reshape(-1, 2)
    kind = shape.get("shape_type") or "polygon"
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not a number")
    if kind == "mask" and len(points) == 2:
        mask = _mask_segmentation(shape, points, size)
        x, y, w, h = mask_box(mask)
        return [x, y, x + w, y + h], encode(mask), True
    if kind == "rectangle" and len(points) in (2, 4):
        x0, y0, x1, y1 = box_of_points(points)
        return [x0, y0, x1, y1], [x0, y0, x1, y0, x1, y1, x0, y1], False
    if kind == "circle" and len(points) == 2:
        turn = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        points = points[0] + radius * np.stack([np.cos(turn), np.sin(turn)], 1)
    elif kind not in ("polygon", "rotation", "oriented_rectangle") or len(points) < 3:
        raise ValueError(f"a {kind} with {len(points)} points")
    return box_of_points(points), points.reshape(-1).tolist(), True


def _annotations(
    content: Mapping[str, Any],
    record: Mapping[str, Any],
    file: Path,
    numbers: Mapping[str, int],
    skipped: list[str],
) -> list[dict[str, Any]]:
    """Convert shapes to annotations; polygons of one label and group are parts of one object."""
    objects: dict[Any, dict[str, Any]] = {}
    for position, shape in enumerate(content["shapes"]):
        where = f"{file}, shape {position}"
        try:
            label, kind = _label(shape), shape.get("shape_type")
            if label not in numbers:
                raise ValueError(f"label {label!r} is not among {', '.join(numbers)}")
            if kind in _NO_REGIONS:
                raise ValueError(f"a {kind} is no region")
            box, region, more = _region(shape, (record["height"], record["width"]))
        except (ValueError, KeyError, TypeError, AttributeError, *READ_ERRORS) as error:
            skipped.append(f"{where}: {'no ' if isinstance(error, KeyError) else ''}{error}")
            continue
        group = shape.get("group_id")
        grouped = isinstance(group, (int, str)) and isinstance(region, list)
        made = objects.setdefault(
            (label, group) if grouped else position,
            {
                "category_id": numbers[label],
                "iscrowd": 0,
                "bbox": box,
                "bbox_mode": BoxMode.XYXY_ABS,
                "_parts": [],
            },
        )
        made["_parts"].append((region, more))
        made["bbox"] = box_of_points([made["bbox"], box])
    for made in objects.values():
        parts = made.pop("_parts")
        if len(parts) > 1 or parts[0][1]:
            made["segmentation"] = [p for p, _ in parts] if isinstance(parts[0][0], list) else parts[0][0]
    return list(objects.values())


def _label(shape: object) -> str:
    label = shape.get("label") if isinstance(shape, Mapping) else None
    if not isinstance(label, (str, int)) or label == "":
        raise ValueError("a shape without a label")
    return str(label)


def _labels(content: Mapping[str, Any]) -> Iterator[str]:
    for shape in content["shapes"]:
        with contextlib.suppress(ValueError):
            yield _label(shape)


def read_labelme(path: str, images: str | None = None, names: Sequence[str] | None = None) -> Dataset:
    """Read LabelMe files, also in sub-folders.

    Polygons, rectangles, circles and masks become objects; rectangles have no segmentation. Shapes that share a label
    and a ``group_id`` are one object. Unreadable files and shapes are listed in ``skipped``, as are points and lines.

    Args:
        path: folder with JSON files.
        images: folder of the images, if it is elsewhere.
        names: class names in the order of their numbers; default: those found, sorted.
    """
    root = Path(path)
    dataset = Dataset()
    contents: dict[Path, dict[str, Any]] = {}
    for file in [root] if root.is_file() else (f for f in files_below(root) if f.suffix.lower() == ".json"):
        try:
            content = _content(file)
        except ValueError as error:
            dataset.skipped.append(str(error))
            continue
        if content is not None:
            contents[file] = content
    if not contents:
        raise FormatError("\n".join([f"no LabelMe files below {root}", *dataset.skipped[:5]]))
    if names is None:
        names = sorted({label for c in contents.values() for label in _labels(c)})
    dataset.metadata["thing_classes"] = list(names)
    numbers = {n: i for i, n in enumerate(names)}
    top = root.parent if root.is_file() else root
    # The image beside a label file comes first: files in different folders may have the same name.
    finder = ImageFinder(images or top)
    for file, content in contents.items():
        key = file.relative_to(top).with_suffix("").as_posix()
        named = content.get("imagePath")
        named = named if isinstance(named, str) and named else file.stem
        inside = file.parent.relative_to(top)
        image = _beside(file, named) if not images else None
        image = image or finder.find(str(inside / named), named, key, file.stem)
        if image is None:
            dataset.skipped.append(f"{file}: its image {named!r} is not in {finder.folders[0]}")
            continue
        record = open_record(dataset, image, key)
        if record is not None:
            record["annotations"] = _annotations(content, record, file, numbers, dataset.skipped)
            dataset.records.append(record)
    note_images(dataset, finder, root)
    return dataset


def _beside(file: Path, named: str) -> Path | None:
    image = file.parent / named
    return image if os.path.isfile(image) else None


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
        dataset: data to write.
        folder: target folder.
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
            copy_image(record, root, image_name)


def _detect(path: Path) -> bool:
    files = [path] if path.is_file() else files_below(path)
    return any(
        _is_labelme(f) for f in itertools.islice((f for f in files if f.suffix.lower() == ".json"), 20)
    )


def _is_labelme(file: Path) -> bool:
    try:
        return '"shapes"' in read_text(file)
    except (ValueError, OSError):
        return False


register_format(Format("labelme", "LabelMe JSON files", read_labelme, write_labelme, _detect))
