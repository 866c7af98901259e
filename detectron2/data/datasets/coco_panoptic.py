"""Panoptic data in COCO's format: a PNG of segment ids per image, and a JSON file that describes the segments."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.utils.errors import UnknownNameError
from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.text import read_json

from ..catalog import DatasetCatalog, MetadataCatalog
from .coco import load_coco_json, load_sem_seg, set_metadata

__all__ = [
    "load_coco_panoptic_json",
    "merge_to_panoptic",
    "register_coco_panoptic",
    "register_coco_panoptic_separated",
]

logger = logging.getLogger(__name__)

_Meta = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


def convert_segment(segment: Mapping[str, Any], meta: object, source: str) -> dict[str, Any]:
    """Return a copy of a segment with its class number and ``isthing``.

    Args:
        segment: with ``category_id`` as in the file.
        meta: has ``thing_dataset_id_to_contiguous_id`` and ``stuff_dataset_id_to_contiguous_id``, as attributes or
            keys.
        source: name of the file, for errors.
    """
    get = meta.get if hasattr(meta, "get") else lambda k: getattr(meta, k)
    category = segment["category_id"]
    for kind, isthing in (("thing", True), ("stuff", False)):
        numbers = get(f"{kind}_dataset_id_to_contiguous_id") or {}
        if category in numbers:
            return {**segment, "category_id": numbers[category], "isthing": isthing}
    raise UnknownNameError(
        f"{source}: segment {segment.get('id')} has category_id {category}, which the metadata do not know"
    )


def load_coco_panoptic_json(
    json_file: str, image_dir: str, gt_dir: str, meta: object
) -> list[dict[str, Any]]:
    """Load a file in COCO's panoptic format.

    Args:
        json_file: path or URL of the JSON file.
        image_dir: folder of the images, which are JPEG files named like their PNG unless ``images`` in the file
            says otherwise. Absolute names are taken as they are.
        gt_dir: folder of the PNG files.
        meta: metadata with the maps from category ids to class numbers.

    Returns:
        Records with ``file_name``, ``image_id``, ``pan_seg_file_name`` and ``segments_info``, whose
        ``category_id`` are class numbers.

    Raises:
        ValueError: there are no annotations.
        KeyError: a category is unknown.
    """
    content = read_json(json_file)
    names = {image["id"]: image.get("file_name") for image in content.get("images", [])}
    records = []
    for anno in content["annotations"]:
        png = anno["file_name"]
        name = names.get(anno["image_id"])
        alike = name is not None and os.path.splitext(name)[0] == os.path.splitext(png)[0]
        if name is None or not (alike or os.path.isabs(name)):
            name = os.path.splitext(png)[0] + ".jpg"
        records.append(
            {
                "file_name": os.path.join(image_dir, name),
                "image_id": int(anno["image_id"]),
                "pan_seg_file_name": os.path.join(gt_dir, png),
                "segments_info": [convert_segment(s, meta, str(json_file)) for s in anno["segments_info"]],
            }
        )
    if not records:
        raise ValueError(f"{json_file} has no annotations")
    for key in ("file_name", "pan_seg_file_name"):
        if not PathManager.isfile(str(records[0][key])):
            logger.warning("%s of the first image does not exist: %s", key, records[0][key])
    return records


def register_coco_panoptic(
    name: str,
    metadata: _Meta,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    instances_json: str | None = None,
) -> None:
    """Register a panoptic data set in COCO's format, in which things and stuff share one numbering.

    Args:
        name: for example ``"coco_2017_train_panoptic"``.
        metadata: with classes and ``*_dataset_id_to_contiguous_id`` of things and stuff, or a function that
            returns them.
        image_root: folder of the images.
        panoptic_root: folder of the PNG files with segment ids.
        panoptic_json: path or URL of the JSON file.
        instances_json: file with the instances, for instance evaluation.
    """
    DatasetCatalog.register(
        name,
        lambda: load_coco_panoptic_json(panoptic_json, image_root, panoptic_root, MetadataCatalog.get(name)),
    )
    set_metadata(
        name,
        metadata,
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        json_file=instances_json,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        label_divisor=1000,
    )


def register_coco_panoptic_separated(
    name: str,
    metadata: _Meta,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    sem_seg_root: str,
    instances_json: str,
) -> None:
    """Register a panoptic data set whose instances and semantic labels come from separate files.

    ``NAME_separated`` has both, as Panoptic FPN expects them (its ``stuff_classes`` start with one class for all
    things); ``NAME_stuffonly`` has the semantic labels alone.

    Args:
        name: prefix of both names.
        metadata: with classes of both kinds, or a function that returns them.
        image_root: folder of the images.
        panoptic_root: folder of the PNG files with segment ids, for the evaluation.
        panoptic_json: JSON file of the panoptic annotations, for the evaluation.
        sem_seg_root: folder of the semantic masks.
        instances_json: file with the instances.
    """
    both, stuff = f"{name}_separated", f"{name}_stuffonly"
    DatasetCatalog.register(
        both,
        lambda: merge_to_panoptic(
            load_coco_json(instances_json, image_root, both), load_sem_seg(sem_seg_root, image_root)
        ),
    )
    set_metadata(
        both,
        metadata,
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        sem_seg_root=sem_seg_root,
        json_file=instances_json,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
    )
    DatasetCatalog.register(stuff, lambda: load_sem_seg(sem_seg_root, image_root))
    set_metadata(
        stuff,
        metadata,
        sem_seg_root=sem_seg_root,
        image_root=image_root,
        evaluator_type="sem_seg",
        ignore_label=255,
    )


def merge_to_panoptic(
    detection_dicts: list[dict[str, Any]], sem_seg_dicts: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Add semantic labels to records with instances, matched by file name.

    Args:
        detection_dicts: records with ``annotations``; changed in place.
        sem_seg_dicts: records with ``sem_seg_file_name``.

    Returns:
        ``detection_dicts``, with the keys of both.

    Raises:
        ValueError: there are no semantic labels.
    """
    if not sem_seg_dicts:
        raise ValueError("no records with semantic labels to merge")
    by_file = {record["file_name"]: record for record in sem_seg_dicts}
    for record in detection_dicts:
        labels = by_file.get(record["file_name"])
        if labels is None:
            raise ValueError(f"{record['file_name']} has instances but no semantic mask")
        for key, value in labels.items():
            record.setdefault(key, value)
    return detection_dicts
