"""Cityscapes panoptic annotations, as ``cityscapesscripts`` writes them."""

import json
import logging
import os
from collections.abc import Callable
from typing import Any

from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import _get_cityscapes_panoptic_meta
from .coco import set_metadata
from .coco_panoptic import convert_segment

__all__ = [
    "DatasetCatalog",
    "MetadataCatalog",
    "get_cityscapes_panoptic_files",
    "load_cityscapes_panoptic",
    "register_all_cityscapes_panoptic",
]

logger = logging.getLogger(__name__)

_IMAGE_END = "_leftImg8bit.png"


def get_cityscapes_panoptic_files(image_dir: str, gt_dir: str, json_info: dict[str, Any]) -> list[Any]:
    """Return the image, id map and segments of each annotation.

    Args:
        image_dir: for instance ``cityscapes/leftImg8bit/train``.
        gt_dir: for instance ``cityscapes/gtFine/cityscapes_panoptic_train``.
        json_info: content of ``cityscapes_panoptic_train.json``.

    Returns:
        A list of ``(image file, id map file, segments_info)``.

    Raises:
        FileNotFoundError: an annotated image, or the first id map, does not exist.
    """
    images = {}
    for city in sorted(PathManager.ls(image_dir)):
        for name in sorted(PathManager.ls(os.path.join(image_dir, city))):
            if name.endswith(_IMAGE_END):
                images[name[: -len(_IMAGE_END)]] = os.path.join(image_dir, city, name)
    if not images:
        raise FileNotFoundError(f"no images CITY/*{_IMAGE_END} in {image_dir}")
    files = []
    for anno in json_info["annotations"]:
        image = images.get(anno["image_id"])
        if image is None:
            raise FileNotFoundError(
                f"{anno['file_name']} annotates {anno['image_id']}, which is not in {image_dir}"
            )
        files.append((image, os.path.join(gt_dir, anno["file_name"]), anno["segments_info"]))
    for path in [image_dir, gt_dir, *(f[1] for f in files[:1])]:
        if not PathManager.exists(path):
            raise FileNotFoundError(
                f"{path} is missing; cityscapesscripts creates it (createPanopticImgs.py)"
            )
    return files


def load_cityscapes_panoptic(
    image_dir: str, gt_dir: str, gt_json: str, meta: dict[str, Any]
) -> list[dict[str, Any]]:
    """Load the panoptic annotations of a split.

    Args:
        image_dir: for instance ``cityscapes/leftImg8bit/train``.
        gt_dir: for instance ``cityscapes/gtFine/cityscapes_panoptic_train``.
        gt_json: for instance ``cityscapes/gtFine/cityscapes_panoptic_train.json``.
        meta: with ``thing_dataset_id_to_contiguous_id`` and ``stuff_dataset_id_to_contiguous_id``.

    Returns:
        Records with ``file_name``, ``image_id``, ``sem_seg_file_name``, ``pan_seg_file_name`` and
        ``segments_info``.
    """
    if not PathManager.exists(gt_json):
        raise FileNotFoundError(f"{gt_json} is missing; cityscapesscripts creates it (createPanopticImgs.py)")
    with PathManager.open(gt_json, "r") as f:
        content = json.load(f)
    records = []
    for image, png, segments in get_cityscapes_panoptic_files(image_dir, gt_dir, content):
        stem = os.path.basename(image)[: -len(_IMAGE_END)]
        labels = image.replace("leftImg8bit", "gtFine").removesuffix(".png") + "_labelTrainIds.png"
        records.append(
            {
                "file_name": image,
                "image_id": stem,
                "sem_seg_file_name": labels,
                "pan_seg_file_name": png,
                "segments_info": [convert_segment(s, meta, gt_json) for s in segments],
            }
        )
    if not records:
        raise ValueError(f"{gt_json} has no annotations")
    logger.info("Loaded %d images from %s", len(records), image_dir)
    return records


def register_all_cityscapes_panoptic(root: str) -> None:
    """Register ``cityscapes_fine_panoptic_train`` and ``_val``.

    Args:
        root: folder that contains ``cityscapes/``.
    """
    for split in ("train", "val"):
        name = f"cityscapes_fine_panoptic_{split}"
        base = os.path.join(root, "cityscapes")
        image_dir = os.path.join(base, "leftImg8bit", split)
        gt_dir = os.path.join(base, "gtFine", f"cityscapes_panoptic_{split}")
        DatasetCatalog.register(name, _loader(image_dir, gt_dir, f"{gt_dir}.json"))
        set_metadata(
            name,
            _get_cityscapes_panoptic_meta,
            panoptic_root=gt_dir,
            image_root=image_dir,
            panoptic_json=f"{gt_dir}.json",
            gt_dir=os.path.join(base, "gtFine", split),
            evaluator_type="cityscapes_panoptic_seg",
        )


def _loader(image_dir: str, gt_dir: str, gt_json: str) -> Callable[[], list[dict[str, Any]]]:
    return lambda: load_cityscapes_panoptic(image_dir, gt_dir, gt_json, _get_cityscapes_panoptic_meta())
