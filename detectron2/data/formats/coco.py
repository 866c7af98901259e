"""COCO instances and COCO panoptic as formats to convert from and to."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detectron2.structures.rle import to_mask
from detectron2.utils.atomic import atomic_write
from detectron2.utils.image_io import image_size

from ..catalog import MetadataCatalog, forget
from ..datasets.coco import load_coco_json
from ..datasets.coco_json.write import records_to_coco
from ..datasets.coco_panoptic import load_coco_panoptic_json
from .base import Dataset, Format, FormatError, register_format, target_names

__all__ = ["read_coco", "read_coco_panoptic", "write_coco", "write_coco_panoptic"]

_READING = "__detectron2_format_coco__"


def _kind(path: Path) -> str:
    """Return the ``instances``, ``panoptic`` or nothing, by the beginning of the annotations."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return ""
    if not isinstance(content, dict) or "images" not in content or "categories" not in content:
        return ""
    return (
        "panoptic" if any("segments_info" in a for a in content.get("annotations", [])[:5]) else "instances"
    )


def find_json(path: Path, kind: str) -> Path:
    """Find the file of a kind: the path itself, or the only one in a folder or its ``annotations``."""
    if path.is_file():
        return path
    found = [
        f
        for folder in (path, path / "annotations")
        for f in sorted(folder.glob("*.json"))
        if _kind(f) == kind
    ]
    if len(found) != 1:
        raise FormatError(
            f"{path}: expected one COCO file ({kind}), found {[f.name for f in found]}; name it"
        )
    return found[0]


def find_images(file: Path, images: str | None) -> Path:
    """Find the folder of a JSON file's images: as given, else the first usual place that has the first image."""
    if images:
        return Path(images)
    entries = json.loads(file.read_text(encoding="utf-8"))["images"]
    places = [file.parent / "images", file.parent, file.parent.parent / "images", file.parent.parent]
    stem = file.stem.replace("instances_", "").replace("panoptic_", "")
    places += [file.parent / stem, file.parent.parent / stem]
    for place in places:
        if entries and (place / entries[0]["file_name"]).is_file():
            return place
    raise FormatError(f"the images of {file} are in none of {', '.join(map(str, places))}; name their folder")


def read_coco(path: str, images: str | None = None) -> Dataset:
    """Read a COCO file of instances (polygons, RLE, keypoints).

    Args:
        path: the JSON file, or a folder with one.
        images: folder of the images; default: ``images`` beside the file, or where else they usually are.
    """
    file = find_json(Path(path), "instances")
    forget(_READING)
    try:
        records = load_coco_json(str(file), str(find_images(file, images)), _READING)
        metadata = {"thing_classes": MetadataCatalog.get(_READING).thing_classes}
    finally:
        forget(_READING)
    categories = json.loads(file.read_text(encoding="utf-8"))["categories"]
    named = [c["keypoints"] for c in categories if c.get("keypoints")]
    if named:
        metadata |= {"keypoint_names": named[0], "keypoint_flip_map": []}
    return Dataset(records, metadata)


def write_coco(dataset: Dataset, folder: str, copy_images: bool = True) -> None:
    """Write ``annotations.json`` and copies of the images in ``images``.

    Args:
        dataset: what to write; category ids start at 1.
        folder: where to.
        copy_images: false leaves the images where they are, and names them by their full path.
    """
    root = Path(folder)
    records = [{**r, "image_id": number} for number, r in enumerate(dataset.records, 1)]
    for record, name in zip(records, target_names(dataset)):
        source = Path(record["file_name"])
        record["file_name"] = name + source.suffix if copy_images else str(source.absolute())
        if copy_images:
            (root / "images").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, root / "images" / record["file_name"])
    content = records_to_coco(records, dataset.classes, {i: i + 1 for i in range(len(dataset.classes))})
    if dataset.metadata.get("keypoint_names"):
        for category in content["categories"]:
            category["keypoints"] = list(dataset.metadata["keypoint_names"])
            category["skeleton"] = []
    with atomic_write(root / "annotations.json") as f:
        json.dump(content, f)


def _detect(path: Path) -> bool:
    return _has(path, "instances")


def _has(path: Path, kind: str) -> bool:
    if path.is_file():
        return path.suffix == ".json" and _kind(path) == kind
    return any(
        _kind(f) == kind for folder in (path, path / "annotations") for f in sorted(folder.glob("*.json"))[:5]
    )


# ------------------------------------------------------------------ panoptic
def read_coco_panoptic(path: str, images: str | None = None, pngs: str | None = None) -> Dataset:
    """Read a COCO panoptic file.

    Args:
        path: the JSON file, or a folder with one.
        images: folder of the images.
        pngs: folder of the PNG files; default: a folder named like the JSON file, beside it.
    """
    file = find_json(Path(path), "panoptic")
    png_dir = Path(pngs) if pngs else file.with_suffix("")
    content = json.loads(file.read_text(encoding="utf-8"))
    ordered = sorted(content["categories"], key=lambda c: c["id"])
    # Things and stuff share one numbering, things first.
    ordered = [c for c in ordered if c.get("isthing")] + [c for c in ordered if not c.get("isthing")]
    numbers = {c["id"]: i for i, c in enumerate(ordered)}
    names = [c["name"] for c in ordered]
    meta = {
        "thing_classes": names,
        "stuff_classes": names,
        "thing_dataset_id_to_contiguous_id": {c["id"]: numbers[c["id"]] for c in ordered if c.get("isthing")},
        "stuff_dataset_id_to_contiguous_id": {
            c["id"]: numbers[c["id"]] for c in ordered if not c.get("isthing")
        },
        "ignore_label": 255,
        "label_divisor": 1000,
    }
    records = load_coco_panoptic_json(str(file), str(find_images(file, images)), str(png_dir), meta)
    sizes = {i["id"]: (i.get("height"), i.get("width")) for i in content["images"]}
    for record in records:
        height, width = sizes.get(record["image_id"], (None, None))
        if height is None or width is None:
            height, width = image_size(record["file_name"])
        record |= {"height": height, "width": width}
    return Dataset(records, meta)


def write_coco_panoptic(dataset: Dataset, folder: str, copy_images: bool = True) -> None:
    """Write ``panoptic.json``, the PNG files in ``panoptic`` and copies of the images in ``images``.

    Records without panoptic labels get them from their instances: where masks overlap, the first one stays in
    front; what no mask covers is unlabelled.

    Args:
        dataset: what to write.
        folder: where to.
        copy_images: false writes the labels only.
    """
    root = Path(folder)
    things = set(dataset.metadata.get("thing_dataset_id_to_contiguous_id", {}).values())
    names = dataset.classes
    isthing = [
        not dataset.metadata.get("stuff_dataset_id_to_contiguous_id") or i in things
        for i in range(len(names))
    ]
    images, annotations = [], []
    (root / "panoptic").mkdir(parents=True, exist_ok=True)
    for number, (record, name) in enumerate(zip(dataset.records, target_names(dataset)), 1):
        image_name = name + Path(record["file_name"]).suffix
        ids, segments = _segments(record)
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(root / "panoptic" / f"{name}.png")
        images.append(
            {"id": number, "file_name": image_name, "height": record["height"], "width": record["width"]}
        )
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
        if copy_images:
            (root / "images").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(record["file_name"], root / "images" / image_name)
    categories = [{"id": i + 1, "name": n, "isthing": int(isthing[i])} for i, n in enumerate(names)]
    with atomic_write(root / "panoptic.json") as f:
        json.dump({"images": images, "annotations": annotations, "categories": categories}, f)


def _segments(record: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """Return the segment ids per pixel, and their descriptions with category ids from 1."""
    if "pan_seg_file_name" in record:
        rgb = np.asarray(Image.open(os.fspath(record["pan_seg_file_name"])).convert("RGB")).astype(np.int64)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
        segments = [{**s, "category_id": s["category_id"] + 1} for s in record["segments_info"]]
        return ids, [{k: v for k, v in s.items() if k != "isthing"} for s in segments]
    height, width = record["height"], record["width"]
    ids = np.zeros((height, width), np.int64)
    segments = []
    for number, anno in enumerate(record.get("annotations", ()), 1):
        if anno.get("segmentation") is None:
            raise FormatError(
                f"{record['file_name']}: annotation {number - 1} has no mask to make a panoptic label from"
            )
        free = to_mask(anno["segmentation"], height, width) & (ids == 0)
        if not free.any():
            continue
        ids[free] = number
        ys, xs = np.flatnonzero(free.any(1)), np.flatnonzero(free.any(0))
        box = [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]
        segments.append(
            {
                "id": number,
                "category_id": anno["category_id"] + 1,
                "area": int(free.sum()),
                "bbox": box,
                "iscrowd": int(anno.get("iscrowd", 0)),
            }
        )
    return ids, segments


def _detect_panoptic(path: Path) -> bool:
    return _has(path, "panoptic")


register_format(Format("coco", "COCO instances (JSON)", read_coco, write_coco, _detect))
register_format(
    Format(
        "coco_panoptic",
        "COCO panoptic (JSON and PNG)",
        read_coco_panoptic,
        write_coco_panoptic,
        _detect_panoptic,
    )
)
