"""LVIS: instances of more than a thousand categories, with the categories that were verified on each image.

Reference: LVIS: A Dataset for Large Vocabulary Instance Segmentation, https://arxiv.org/abs/1908.03195
"""

import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import _get_coco_instances_meta, category_rows
from .coco import set_metadata

__all__ = ["get_lvis_instances_meta", "load_lvis_json", "register_lvis_instances"]

logger = logging.getLogger(__name__)


def register_lvis_instances(
    name: str, metadata: Mapping[str, Any] | Callable[[], Mapping[str, Any]], json_file: str, image_root: str
) -> None:
    """Register a data set in LVIS's format; its file is read on first use.

    Args:
        name: for example ``"lvis_v1_train"``.
        metadata: additional metadata, or a function that returns them.
        json_file: path or URL of the JSON file.
        image_root: folder of the images.
    """
    DatasetCatalog.register(name, lambda: load_lvis_json(json_file, image_root, name))
    set_metadata(name, metadata, json_file=json_file, image_root=image_root, evaluator_type="lvis")


def _image_path(image: Mapping[str, Any], image_root: str) -> str:
    """Return the path of an image: LVIS v1 only has COCO's URL, v0.5 the file name of COCO 2014."""
    if "coco_url" in image:
        return os.path.join(image_root, *image["coco_url"].split("/")[-2:])
    name = image["file_name"]
    if name.startswith("COCO_"):
        # COCO_val2014_000000123456.jpg is 000000123456.jpg since 2017.
        name = name[-len("000000123456.jpg") :]
    return os.path.join(image_root, name)


def _class_numbers(dataset_name: str | None) -> Callable[[int], int]:
    known = (
        MetadataCatalog.get(dataset_name).get("thing_dataset_id_to_contiguous_id") if dataset_name else None
    )
    # LVIS numbers its categories 1..K.
    return (lambda category: category - 1) if known is None else known.__getitem__


def _annotation(
    anno: Mapping[str, Any], number: Callable[[int], int], extra: Sequence[str], source: str
) -> dict[str, Any]:
    made = {
        "bbox": anno["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": number(anno["category_id"]),
        "segmentation": [p for p in anno["segmentation"] if len(p) % 2 == 0 and len(p) >= 6],
    }
    if len(made["segmentation"]) != len(anno["segmentation"]) or not made["segmentation"]:
        raise ValueError(
            f"{source}: annotation {anno.get('id')} has a polygon of fewer than 3 points, or none: the file is damaged"
        )
    for key in extra:
        if key in anno:
            made[key] = anno[key]
    return made


def load_lvis_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Load a file in LVIS's format.

    Args:
        json_file: path or URL of the JSON file.
        image_root: folder that image paths are relative to.
        dataset_name: name whose metadata get LVIS's classes, if they have no classes yet.
        extra_annotation_keys: additional keys of the annotations to keep.

    Returns:
        One record per image in the order of the image ids, with ``neg_category_ids`` and
        ``not_exhaustive_category_ids`` as in the file.

    Raises:
        ValueError: an annotation id is used twice, or a polygon has fewer than 3 points.
    """
    with PathManager.open(json_file, "r") as f:
        content = json.load(f)
    source = str(json_file)
    if dataset_name is not None and "thing_classes" not in MetadataCatalog.get(dataset_name).as_dict():
        MetadataCatalog.get(dataset_name).set(**get_lvis_instances_meta(dataset_name))
    number = _class_numbers(dataset_name)
    annotations = content.get("annotations", [])
    if len({a["id"] for a in annotations}) < len(annotations):
        raise ValueError(f"{source}: annotation ids are used more than once")
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for a in annotations:
        by_image[a["image_id"]].append(_annotation(a, number, tuple(extra_annotation_keys or ()), source))
    records = [
        {
            "file_name": _image_path(image, image_root),
            "height": image["height"],
            "width": image["width"],
            "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
            "neg_category_ids": image.get("neg_category_ids", []),
            "image_id": image["id"],
            "annotations": by_image.get(image["id"], []),
        }
        for image in sorted(content["images"], key=lambda i: i["id"])
    ]
    logger.info("Loaded %d images in LVIS's format from %s", len(records), json_file)
    return records


def get_lvis_instances_meta(dataset_name: str) -> dict[str, Any]:
    """Return the metadata of an LVIS data set by its name.

    Args:
        dataset_name: contains ``v1`` or ``v0.5``; with ``cocofied``, the classes are COCO's.

    Raises:
        ValueError: the name contains no known version.
    """
    if "cocofied" in dataset_name:
        return _get_coco_instances_meta()
    for version in ("v0.5", "v1"):
        if version in dataset_name:
            rows = category_rows(f"lvis_{version}")
            meta: dict[str, Any] = {"thing_classes": [row["synonyms"][0] for row in rows]}
            if "image_count" in rows[0]:
                meta["class_image_count"] = [{"id": r["id"], "image_count": r["image_count"]} for r in rows]
            return meta
    raise ValueError(f"{dataset_name!r} names no known version of LVIS: it must contain 'v0.5' or 'v1'")
