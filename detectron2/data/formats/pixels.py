"""Label maps as training and evaluation take them: numbers of classes, metadata, maps of classes, and instances."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from detectron2.structures import BoxMode
from detectron2.structures.rle import encode, mask_box
from detectron2.utils.errors import BadValue
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.text import read_json

from ..datasets import load_coco_json
from ..datasets.coco_json.write import records_to_coco
from .base import Dataset, FormatError
from .coco import read_coco_panoptic

__all__ = ["PixelTask", "load_pixels", "pixel_files", "same_pixel_classes", "store_pixels"]

IGNORED = 255  # label of pixels without a class

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PixelTask:
    """The task that label maps are used for.

    Attributes:
        kind: "panoptic" or "semantic".
        classes: names of all classes, things first.
        ids: category id of each class in a panoptic file; empty for semantic labels.
        things: number of classes that are things.
        separate: things and stuff have numberings of their own, as Panoptic FPN has them: instances, and maps in which
            class 0 stands for all things. Otherwise they share one numbering.
    """

    kind: str
    classes: list[str]
    ids: list[int] = field(default_factory=list)
    things: int = 0
    separate: bool = False

    def metadata(self) -> dict[str, Any]:
        """Return what the catalog of metadata holds of the classes, and the type of evaluator."""
        if self.kind == "semantic":
            return {
                "stuff_classes": self.classes,
                "ignore_label": IGNORED,
                "evaluator_type": "sem_seg",
            }
        numbers = {category: i for i, category in enumerate(self.ids)}
        names, stuff, stuff_numbers = self.classes, self.classes, numbers
        if self.separate:
            names, stuff = self.classes[: self.things], ["things", *self.classes[self.things :]]
            stuff_numbers = {min(self.ids) - 1: 0}
            stuff_numbers |= {c: self.label(i) for c, i in numbers.items() if i >= self.things}
        return {
            "thing_classes": names,
            "stuff_classes": stuff,
            "thing_dataset_id_to_contiguous_id": {c: i for c, i in numbers.items() if i < self.things},
            "stuff_dataset_id_to_contiguous_id": stuff_numbers,
            "ignore_label": IGNORED,
            "label_divisor": 1000,
            "evaluator_type": "coco_panoptic_seg",
        }

    def label(self, number: int) -> int:
        """Return the label of a class in maps of classes."""
        return max(number - self.things + 1, 0) if self.separate else number


def pixel_files(prefix: str) -> tuple[str, str]:
    """Return the folder of maps of classes, and the file of instances, that belong to stored labels."""
    return f"{prefix}_semantic", f"{prefix}_instances.json"


def store_pixels(dataset: Dataset, task: PixelTask, prefix: str, derive: bool) -> str:
    """Store the label maps of a run; label maps of the user are referred to, not copied.

    Args:
        dataset: checked labels.
        task: what they are used for; panoptic labels may serve a semantic task.
        prefix: path to which endings of files are added.
        derive: write maps of classes, and for panoptic tasks the instances of things, which evaluations need.

    Returns:
        Path of the JSON file of the labels.
    """
    os.makedirs(os.path.dirname(prefix) or ".", exist_ok=True)
    panoptic = any("segments_info" in r for r in dataset.records)
    if panoptic and (derive or task.kind == "semantic"):
        _derive(dataset, task, prefix)
    if task.kind == "panoptic":
        content = _panoptic_content(dataset, task)
    else:
        folder = pixel_files(prefix)[0]
        files = [
            os.path.join(folder, f"{n:06d}.png") if panoptic else "" for n in range(len(dataset.records))
        ]
        content = {"records": [_semantic_record(r, file) for r, file in zip(dataset.records, files)]}
    with atomic_write(f"{prefix}.json") as f:
        json.dump(content, f)
    return f"{prefix}.json"


def _semantic_record(record: Mapping[str, Any], derived: str) -> dict[str, Any]:
    kept = {key: record[key] for key in ("image_id", "height", "width")}
    files = {"file_name": record["file_name"], "sem_seg_file_name": derived or record["sem_seg_file_name"]}
    return kept | {key: os.path.abspath(path) for key, path in files.items()}


def _panoptic_content(dataset: Dataset, task: PixelTask) -> dict[str, Any]:
    """Return the content of a panoptic file with absolute paths."""
    images, annotations = [], []
    for record in dataset.records:
        key = {"image_id": record["image_id"]}
        size = {"height": record["height"], "width": record["width"]}
        images.append({"id": record["image_id"], "file_name": os.path.abspath(record["file_name"]), **size})
        segments = [{**s, "category_id": task.ids[s["category_id"]]} for s in record["segments_info"]]
        for segment in segments:
            segment.pop("isthing", None)
        file = os.path.abspath(record["pan_seg_file_name"])
        annotations.append({**key, "file_name": file, "segments_info": segments})
    categories = [
        {"id": c, "name": name, "isthing": int(i < task.things)}
        for i, (c, name) in enumerate(zip(task.ids, task.classes))
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _derive(dataset: Dataset, task: PixelTask, prefix: str) -> None:
    """Write the map of classes of each record, and the instances of all."""
    if len(task.classes) > IGNORED:
        raise BadValue(f"maps of classes have room for {IGNORED} classes, got {len(task.classes)}")
    folder, instances = pixel_files(prefix)
    os.makedirs(folder, exist_ok=True)
    records = []
    for n, record in enumerate(dataset.records):
        labels, annotations = _split(record, task)
        Image.fromarray(labels).save(os.path.join(folder, f"{n:06d}.png"))
        file = os.path.abspath(record["file_name"])
        keys = {key: record[key] for key in ("image_id", "height", "width")}
        records.append({**keys, "file_name": file, "annotations": annotations})
    if task.kind == "panoptic":
        things = task.things
        content = records_to_coco(records, task.classes[:things], dict(enumerate(task.ids[:things])))
        with atomic_write(instances) as f:
            json.dump(content, f)


def _split(record: Mapping[str, Any], task: PixelTask) -> tuple[Labels, list[dict[str, Any]]]:
    """Return the map of classes [H, W] of a panoptic record, and the annotations of its things."""
    with Image.open(record["pan_seg_file_name"]) as image:
        colors = np.asarray(image.convert("RGB")).astype(np.int64)
    ids = colors @ np.array([1, 256, 65536])
    labels, annotations = np.full(ids.shape, IGNORED, np.uint8), []
    for segment in record["segments_info"]:
        mask = ids == segment["id"]
        labels[mask] = task.label(segment["category_id"])
        if segment["category_id"] < task.things and mask.any():
            x, y, width, height = mask_box(mask)
            annotations.append(
                {
                    "category_id": segment["category_id"],
                    "bbox": [x, y, x + width, y + height],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "iscrowd": int(segment.get("iscrowd", 0)),
                    "segmentation": encode(mask),
                }
            )
    return labels, annotations


def load_pixels(file: str, images: str, task: PixelTask, prefix: str) -> list[dict[str, Any]]:
    """Load what :func:`store_pixels` stored.

    Args:
        file: its result.
        images: folder of the images.
        task: what the labels are used for.
        prefix: see :func:`store_pixels`.

    Returns:
        Records with ``sem_seg_file_name``, if there are maps of classes; with ``pan_seg_file_name`` and
        ``segments_info`` for panoptic tasks, or with ``annotations`` if things are separate.
    """
    if task.kind == "semantic":
        records: list[dict[str, Any]] = read_json(file)["records"]
        return records
    records = read_coco_panoptic(file, images).records
    folder, instances = pixel_files(prefix)
    if os.path.isdir(folder):
        for n, record in enumerate(records):
            record["sem_seg_file_name"] = os.path.join(folder, f"{n:06d}.png")
    if not task.separate:
        return records
    numbers = {category: i for i, category in enumerate(task.ids)}
    of_image = {r["image_id"]: r["annotations"] for r in load_coco_json(instances, images)}
    for record in records:
        found = of_image[record["image_id"]]
        record["annotations"] = [{**a, "category_id": numbers[a["category_id"]]} for a in found]
        del record["pan_seg_file_name"], record["segments_info"]
    return records


def same_pixel_classes(dataset: Dataset, names: Sequence[str]) -> None:
    """Check that label maps have given classes; semantic ones, which have only numbers, may lack the last ones.

    Raises:
        FormatError: the classes differ.
    """
    own = list(dataset.metadata["stuff_classes"])
    things = bool(dataset.metadata.get("thing_dataset_id_to_contiguous_id"))
    if own != list(names)[: len(own)] or (things and len(own) != len(names)):
        raise FormatError(
            f"label maps have the classes {', '.join(own[:20])}, expected {', '.join(names[:20])}, in this order"
        )
    dataset.metadata["stuff_classes"] = list(names)
