"""Cityscapes with fine annotations: instances from polygons or id maps, and semantic labels.

Reference: The Cityscapes Dataset for Semantic Urban Scene Understanding, https://arxiv.org/abs/1604.01685
"""

import argparse
import json
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pycocotools.mask as mask_util
from PIL import Image

from detectron2.structures import BoxMode
from detectron2.utils.comm import get_world_size
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from .builtin_meta import category_rows

__all__ = ["load_cityscapes_instances", "load_cityscapes_semantic"]

logger = logging.getLogger(__name__)

_IMAGE_END = "leftImg8bit.png"


class CityscapesFiles(NamedTuple):
    """The files of one image."""

    image: str
    instance_ids: str
    label_ids: str
    polygons: str


def _get_cityscapes_files(image_dir: str, gt_dir: str) -> list[CityscapesFiles]:
    """Return the files of all images, sorted by city and name.

    Raises:
        ValueError: the folders hold none.
    """
    found = []
    for city in sorted(PathManager.ls(image_dir)):
        for name in sorted(PathManager.ls(os.path.join(image_dir, city))):
            if name.endswith(_IMAGE_END):
                stem = os.path.join(gt_dir, city, name[: -len(_IMAGE_END)] + "gtFine_")
                found.append(
                    CityscapesFiles(
                        os.path.join(image_dir, city, name),
                        f"{stem}instanceIds.png",
                        f"{stem}labelIds.png",
                        f"{stem}polygons.json",
                    )
                )
    if not found:
        raise ValueError(f"no images CITY/*_{_IMAGE_END} in {image_dir}")
    if not PathManager.isfile(found[0].polygons):
        raise FileNotFoundError(
            f"annotations are missing: {found[0].polygons}. Is {gt_dir} the folder of this split?"
        )
    return found


def load_cityscapes_instances(
    image_dir: str, gt_dir: str, from_json: bool = True, to_polygons: bool = True
) -> list[dict[str, Any]]:
    """Load the instances of a split.

    Args:
        image_dir: for instance ``cityscapes/leftImg8bit/train``.
        gt_dir: for instance ``cityscapes/gtFine/train``.
        from_json: read the annotators' polygons; otherwise the instance id maps, which contain visible pixels only.
        to_polygons: return segmentations as polygons, otherwise as RLE.

    Returns:
        Records; ``category_id`` counts the 8 classes with instances from 0, groups have ``iscrowd`` 1.
    """
    if from_json and not to_polygons:
        logger.info(
            "Polygons from JSON files are rasterized to RLE; from_json=False reads the masks directly"
        )
    files = _get_cityscapes_files(image_dir, gt_dir)
    read = partial(_read_instances, from_json=from_json, to_polygons=to_polygons)
    # Reading files and decoding PNGs release the GIL, so that threads pay off.
    with ThreadPoolExecutor(max_workers=max(1, min(8, (os.cpu_count() or 2) // get_world_size()))) as pool:
        records = list(pool.map(read, files))
    logger.info("Loaded %d images from %s", len(records), image_dir)
    return records


def load_cityscapes_semantic(image_dir: str, gt_dir: str) -> list[dict[str, Any]]:
    """Load the semantic labels of a split.

    The masks ``*_labelTrainIds.png`` must exist; ``datasets/prepare_cityscapes.py`` creates them.

    Args:
        image_dir: for instance ``cityscapes/leftImg8bit/train``.
        gt_dir: for instance ``cityscapes/gtFine/train``.

    Returns:
        Records with ``file_name``, ``sem_seg_file_name``, ``height`` and ``width``.
    """
    records = []
    for files in _get_cityscapes_files(image_dir, gt_dir):
        with PathManager.open(files.polygons, "r") as f:
            content = json.load(f)
        records.append(
            {
                "file_name": files.image,
                "sem_seg_file_name": files.label_ids.replace("labelIds", "labelTrainIds"),
                "height": content["imgHeight"],
                "width": content["imgWidth"],
            }
        )
    first = records[0]["sem_seg_file_name"]
    if not PathManager.isfile(first):
        raise FileNotFoundError(
            f"{first} is missing. Create these masks with datasets/prepare_cityscapes.py."
        )
    return records


def _classes(key: str) -> dict[Any, int]:
    """Return name or id -> class number of the classes with instances."""
    things = [c for c in category_rows("cityscapes") if c["isthing"]]
    return {c[key]: number for number, c in enumerate(things)}


def _read_instances(files: CityscapesFiles, from_json: bool, to_polygons: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"file_name": files.image, "image_id": os.path.basename(files.image)}
    if from_json:
        with PathManager.open(files.polygons, "r") as f:
            content = json.load(f)
        record |= {"height": content["imgHeight"], "width": content["imgWidth"]}
        record["annotations"] = list(_from_polygons(content, to_polygons))
    else:
        with PathManager.open(files.instance_ids, "rb") as f:
            ids = np.asarray(Image.open(f), order="F")
        record |= {"height": ids.shape[0], "width": ids.shape[1]}
        record["annotations"] = list(_from_id_map(ids, to_polygons))
    return record


def _from_polygons(content: Mapping[str, Any], to_polygons: bool) -> Iterator[dict[str, Any]]:
    """Yield the visible parts of the annotated objects, from front to back; the file lists them from back to front."""
    try:
        from shapely.geometry import Polygon
        from shapely.ops import unary_union
    except ImportError as error:
        raise ImportError(
            "Cityscapes' polygons overlap and are cut with shapely: pip install shapely. "
            "load_cityscapes_instances(..., from_json=False) reads the id maps and does not need it."
        ) from error
    numbers = _classes("name")
    in_front: list[Any] = []
    size = content["imgHeight"], content["imgWidth"]
    for obj in reversed(content["objects"]):
        if obj.get("deleted") or len(obj["polygon"]) < 3:
            continue
        # A buffer of zero repairs self-intersecting polygons.
        shape = Polygon(obj["polygon"]).buffer(0.0)
        label = obj["label"]
        crowd = label not in numbers and label.endswith("group")
        name = label.removesuffix("group") if crowd else label
        if name in numbers:
            visible = shape.difference(unary_union(in_front)) if in_front else shape
            pieces = getattr(visible, "geoms", [visible])
            polygons = [_exterior(p) for p in pieces if p.geom_type == "Polygon" and not p.is_empty]
            if polygons:
                yield _annotation(numbers[name], crowd, polygons, to_polygons, size)
        in_front.append(shape)


def _exterior(polygon: Any) -> list[float]:
    # The last point of a ring repeats the first.
    return [float(v) for point in polygon.exterior.coords[:-1] for v in point[:2]]


def _annotation(
    category: int, crowd: bool, polygons: list[list[float]], to_polygons: bool, size: tuple[int, int]
) -> dict[str, Any]:
    points = np.concatenate([np.asarray(p).reshape(-1, 2) for p in polygons])
    bbox = [*points.min(0).tolist(), *points.max(0).tolist()]
    segmentation = polygons if to_polygons else mask_util.merge(mask_util.frPyObjects(polygons, *size))
    return {
        "iscrowd": int(crowd),
        "category_id": category,
        "bbox": bbox,
        "bbox_mode": BoxMode.XYXY_ABS,
        "segmentation": segmentation,
    }


def _from_id_map(ids: npt.NDArray[Any], to_polygons: bool) -> Iterator[dict[str, Any]]:
    """Yield the objects of an id map, whose values are ``class * 1000 + number``, or the class alone for groups."""
    numbers = _classes("id")
    for value in np.unique(ids).tolist():
        crowd = value < 1000
        label = value if crowd else value // 1000
        if label not in numbers:
            continue
        mask = np.asarray(ids == value, dtype=np.uint8, order="F")
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)]
        if box[2] - box[0] <= 1 or box[3] - box[1] <= 1:
            continue  # one pixel wide or high
        if to_polygons:
            segmentation: object = _outlines(mask)
            if not segmentation:
                continue
        else:
            segmentation = mask_util.encode(mask)
        yield {
            "iscrowd": int(crowd),
            "category_id": numbers[label],
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "segmentation": segmentation,
        }


def _outlines(mask: npt.NDArray[np.uint8]) -> list[list[float]]:
    try:
        import cv2
    except ImportError as error:
        raise ImportError("polygons from masks need OpenCV: pip install 'detectron2[viz]'") from error
    found = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2]
    return [c.reshape(-1).astype(float).tolist() for c in found if len(c) >= 3]


def main() -> None:
    """List the images of a split and their labels: ``python -m detectron2.data.datasets.cityscapes IMAGES GT``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("image_dir")
    parser.add_argument("gt_dir")
    parser.add_argument("--type", choices=["instance", "semantic"], default="instance")
    args = parser.parse_args()
    setup_logger(name="detectron2")
    load = load_cityscapes_instances if args.type == "instance" else load_cityscapes_semantic
    for record in load(args.image_dir, args.gt_dir):
        print(
            record["file_name"],
            record["height"],
            record["width"],
            len(record.get("annotations", [])),
            "annotations",
        )


if __name__ == "__main__":
    main()
