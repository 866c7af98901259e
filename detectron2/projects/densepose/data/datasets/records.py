"""Read records with DensePose keys from files in COCO or LVIS format."""

import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pycocotools.mask as mask_util

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

__all__ = ["read_records"]

logger = logging.getLogger(__name__)

_KEYS = ("iscrowd", "bbox", "category_id")


def read_records(
    json_file: str,
    dataset_name: str,
    extra_keys: Collection[str],
    fields_of_image: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Read a file in COCO or LVIS format.

    Args:
        json_file: path or URL.
        dataset_name: value of ``dataset`` in each record.
        extra_keys: further keys of the annotations to keep.
        fields_of_image: returns the fields of a record, at least ``file_name``, from an entry of ``images``.

    Returns:
        The records in the order of the image ids, and the names of the categories by id.

    Raises:
        ValueError: ids are used twice, or an annotation has no box.
    """
    with PathManager.open(json_file, "r") as f:
        content = json.load(f)
    images = sorted(content["images"], key=lambda image: image["id"])
    annotations = content.get("annotations", [])
    _check_ids(json_file, images, annotations)
    by_image = defaultdict(list)
    for annotation in annotations:
        by_image[annotation["image_id"]].append(annotation)
    records = []
    for image in images:
        converted = (_convert(a, extra_keys, json_file) for a in by_image[image["id"]])
        records.append(
            {
                **fields_of_image(image),
                "height": image["height"],
                "width": image["width"],
                "image_id": image["id"],
                "dataset": dataset_name,
                "annotations": [a for a in converted if a is not None],
            }
        )
    logger.info("Loaded %d images from %s", len(records), json_file)
    return records, {c["id"]: c["name"] for c in content.get("categories", [])}


def _check_ids(json_file: str, images: list[Any], annotations: list[Any]) -> None:
    # Some published "minival" splits repeat annotation ids, although the annotations are complete.
    unique = [("image", images)]
    if "minival" not in os.path.basename(json_file):
        unique.append(("annotation", annotations))
    for kind, entries in unique:
        repeated = len(entries) - len({entry["id"] for entry in entries})
        if repeated:
            raise ValueError(f"{json_file}: {repeated} {kind} ids are used more than once; number them anew")


def _convert(
    annotation: Mapping[str, Any], extra_keys: Collection[str], source: str
) -> dict[str, Any] | None:
    """Convert one annotation; None = it has polygons, but no valid one."""
    if not annotation.get("bbox"):
        raise ValueError(
            f"{source}: annotation {annotation.get('id')} of image {annotation.get('image_id')} has no bbox. "
            "Give it [x, y, width, height], or remove the annotation."
        )
    made = {key: annotation[key] for key in (*_KEYS, *extra_keys) if key in annotation}
    made["bbox_mode"] = BoxMode.XYWH_ABS
    if annotation.get("segmentation"):
        segmentation = _valid_segmentation(annotation["segmentation"])
        if not segmentation:
            return None
        made["segmentation"] = segmentation
    if annotation.get("keypoints"):
        # COCO has keypoints in pixel indices and boxes in continuous coordinates: pixel centres are at 0.5.
        values = annotation["keypoints"]
        made["keypoints"] = [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(values)]
    return made


def _valid_segmentation(segmentation: Any) -> Any:
    """Return compressed RLE, or the polygons with at least 3 points."""
    if isinstance(segmentation, Mapping):
        if isinstance(segmentation["counts"], list):
            return mask_util.frPyObjects(dict(segmentation), *segmentation["size"])
        return segmentation
    return [polygon for polygon in segmentation if len(polygon) % 2 == 0 and len(polygon) >= 6]
