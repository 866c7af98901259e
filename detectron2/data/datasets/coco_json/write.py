"""Write records as COCO JSON."""

import datetime
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectron2.structures import Boxes, BoxMode, PolygonMasks, RotatedBoxes
from detectron2.structures.rle import run_lengths, to_rle
from detectron2.structures.types import Segmentation
from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.json_values import plain

from ...catalog import DatasetCatalog, MetadataCatalog
from .records import shift_keypoints

__all__ = ["convert_to_coco_dict", "convert_to_coco_json", "records_to_coco"]

logger = logging.getLogger(__name__)


def _segmentation_area(segmentation: Segmentation, height: int, width: int) -> tuple[Any, float]:
    """Convert a segmentation for JSON, and compute its area in pixels."""
    if isinstance(segmentation, (list, tuple)):
        polygons: list[Any] = [np.asarray(p, dtype=np.float64) for p in segmentation]
        return plain(polygons), float(PolygonMasks([polygons]).area()[0])
    packed = to_rle(segmentation, height, width)
    return packed, float(run_lengths(packed)[1::2].sum())


def _box_and_area(bbox: npt.ArrayLike, mode: BoxMode) -> tuple[list[float], float]:
    """Convert a box to COCO's form (XYWH, or XYWHA for rotated boxes), and compute its area."""
    values = np.asarray(bbox, dtype=np.float64).reshape(-1)
    if len(values) not in (4, 5):
        raise ValueError(f"bbox must have 4 numbers, or 5 for a rotated box, got {values.tolist()}")
    if len(values) == 5:
        return values.tolist(), float(RotatedBoxes(values[None].tolist()).area()[0])
    upright = BoxMode.convert(values.tolist(), mode, BoxMode.XYXY_ABS)
    return (
        list(BoxMode.convert(upright, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)),
        float(Boxes(torch.tensor([list(upright)])).area()[0]),
    )


def _annotation(
    obj: Mapping[str, Any], record: Mapping[str, Any], ids: Mapping[int, int] | None
) -> dict[str, Any]:
    mode = BoxMode(obj["bbox_mode"])
    bbox, area = _box_and_area(obj["bbox"], mode)
    category = int(obj["category_id"])
    made: dict[str, Any] = {
        "iscrowd": int(obj.get("iscrowd", 0)),
        "category_id": category if ids is None else ids[category],
        "bbox": [round(float(v), 3) for v in bbox],
    }
    if obj.get("segmentation") is not None:
        made["segmentation"], area = _segmentation_area(
            obj["segmentation"], record["height"], record["width"]
        )
    made["area"] = float(area)
    if obj.get("keypoints") is not None:
        keypoints = np.asarray(obj["keypoints"], dtype=np.float64).reshape(-1).tolist()
        made["num_keypoints"] = sum(v > 0 for v in keypoints[2::3])
        # Back from continuous coordinates to whole pixels.
        made["keypoints"] = shift_keypoints(keypoints, -0.5)
    return made


def records_to_coco(
    records: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    contiguous_to_id: Mapping[int, int] | None = None,
    image_root: str | None = None,
) -> dict[str, Any]:
    """Convert records to the content of a COCO JSON file.

    Args:
        records: with ``height`` and ``width``; ``image_id`` falls back to the position in the list.
        class_names: names of the classes.
        contiguous_to_id: class number -> category id to write; None writes the class numbers.
        image_root: folder that file names become relative to; None leaves them as they are.
    """
    ids = contiguous_to_id
    categories = [{"id": i if ids is None else ids[i], "name": name} for i, name in enumerate(class_names)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position, record in enumerate(records):
        file_name = str(record["file_name"])
        if image_root is not None:
            file_name = os.path.relpath(file_name, image_root)
        image_id = plain(record.get("image_id", position))
        images.append(
            {
                "id": image_id,
                "width": int(record["width"]),
                "height": int(record["height"]),
                "file_name": file_name,
            }
        )
        for obj in record.get("annotations", ()):
            made = _annotation(obj, record, ids)
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **made})
    info = {"date_created": str(datetime.datetime.now()), "description": "written by detectron2"}
    return {
        "info": info,
        "images": plain(images),
        "categories": categories,
        "annotations": annotations,
        "licenses": None,
    }


def convert_to_coco_dict(dataset_name: str) -> dict[str, Any]:
    """Convert a registered data set to the content of a COCO JSON file.

    Category ids are the original ones if the metadata have them, otherwise the class numbers. Rotated boxes are
    written with five numbers; ``area`` is that of the mask, or of the box if there is no mask.

    Args:
        dataset_name: registered data set whose metadata have ``thing_classes``.
    """
    records = DatasetCatalog.get(dataset_name)
    meta = MetadataCatalog.get(dataset_name)
    id_map = meta.get("thing_dataset_id_to_contiguous_id")
    back = None if id_map is None else {number: category for category, number in id_map.items()}
    logger.info("Converting %d images of %r to COCO's format", len(records), dataset_name)
    return records_to_coco(records, meta.thing_classes, back)


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Write a registered data set as a COCO JSON file.

    Args:
        dataset_name: registered data set.
        output_file: path to write; missing folders are created.
        allow_cached: keep an existing file; pass False if it may be out of date.
    """
    folder = os.path.dirname(output_file)
    if folder:
        PathManager.mkdirs(folder)
    if allow_cached and PathManager.exists(output_file):
        logger.warning("%s exists and is kept. If the data changed since, remove it.", output_file)
        return
    content = convert_to_coco_dict(dataset_name)
    with atomic_write(PathManager.get_local_path(output_file)) as f:
        json.dump(content, f)
