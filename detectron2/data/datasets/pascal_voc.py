"""Pascal VOC: one XML file per image with boxes."""

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from detectron2.utils.suggest import did_you_mean

from ..catalog import DatasetCatalog, MetadataCatalog

__all__ = ["CLASS_NAMES", "load_voc_instances", "register_pascal_voc"]

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def read_voc_xml(path: str, class_names: Sequence[str]) -> tuple[int, int, list[dict[str, Any]]]:
    """Read height, width and annotations of one VOC file.

    VOC counts pixels from 1 and includes the last one: (1, 1, w, h) covers the image and becomes (0, 0, w, h).

    Raises:
        ValueError: a class is not in ``class_names``, or the file is not in VOC's format.
    """
    with PathManager.open(path, "r") as f:
        try:
            root = ElementTree.parse(f).getroot()
        except ElementTree.ParseError as error:
            raise ValueError(f"{path} is not a complete XML file: {error}") from error
    number = {name: i for i, name in enumerate(class_names)}
    size = {tag: int(root.findtext(f"size/{tag}", "-1")) for tag in ("height", "width")}
    if min(size.values()) < 0:
        raise ValueError(f"{path}: <size> with <width> and <height> is missing")
    annotations = []
    for node in root.iter("object"):
        name = (node.findtext("name") or "").strip()
        if name not in number:
            raise ValueError(
                f"{path}: class {name!r} is not among the {len(number)} classes. {did_you_mean(name, number)}"
            )
        x0, y0, x1, y1 = (
            float(node.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        annotations.append(
            {"category_id": number[name], "bbox": [x0 - 1.0, y0 - 1.0, x1, y1], "bbox_mode": BoxMode.XYXY_ABS}
        )
    return size["height"], size["width"], annotations


def load_voc_instances(dirname: str, split: str, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Load a split of a data set laid out like Pascal VOC.

    Objects marked difficult are included, as is usual for training; the evaluation reads the XML files itself.

    Args:
        dirname: folder with ``Annotations``, ``ImageSets`` and ``JPEGImages``.
        split: name of a file in ``ImageSets/Main``, without its extension.
        class_names: names of the classes, in the order of their numbers.

    Returns:
        Records; the ``image_id`` is the file name without its extension.
    """
    with PathManager.open(os.path.join(dirname, "ImageSets", "Main", f"{split}.txt"), "r") as f:
        ids = [line.split()[0] for line in f if line.strip()]
    # Download a remote folder once instead of file by file.
    annotation_dir = PathManager.get_local_path(os.path.join(dirname, "Annotations"))
    records = []
    for image_id in ids:
        height, width, annotations = read_voc_xml(
            os.path.join(annotation_dir, f"{image_id}.xml"), class_names
        )
        records.append(
            {
                "file_name": os.path.join(dirname, "JPEGImages", f"{image_id}.jpg"),
                "image_id": image_id,
                "height": height,
                "width": width,
                "annotations": annotations,
            }
        )
    return records


def register_pascal_voc(
    name: str,
    dirname: str,
    split: str,
    year: int | str,
    class_names: Sequence[str] = CLASS_NAMES,
) -> None:
    """Register a data set laid out like Pascal VOC; its files are read on first use.

    Args:
        name: for example ``"voc_2007_train"``.
        dirname: folder with ``Annotations``, ``ImageSets`` and ``JPEGImages``.
        split: name of a file in ``ImageSets/Main``, without its extension.
        year: 2007 selects the 11-point average precision in the evaluation.
        class_names: names of the classes, in the order of their numbers.
    """
    DatasetCatalog.register(name, lambda: load_voc_instances(dirname, split, class_names))
    MetadataCatalog.get(name).set(thing_classes=list(class_names), dirname=dirname, year=year, split=split)
