"""COCO with a few labelled points of each object instead of masks."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from detectron2.data.datasets.coco import load_coco_json, set_metadata

__all__ = [
    "DatasetCatalog",
    "MetadataCatalog",
    "register_all_coco_train_points",
    "register_coco_instances_with_points",
]

# Name -> (image folder, JSON file), relative to the root.
_COCO_POINTS = {
    "coco_2017_train_points_n10_v1_without_masks": (
        "coco/train2017",
        "coco/annotations/instances_train2017_n10_v1_without_masks.json",
    ),
}


def register_coco_instances_with_points(
    name: str,
    metadata: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    json_file: str,
    image_root: str,
) -> None:
    """Register a dataset in COCO format whose annotations also have ``point_coords`` and ``point_labels``.

    Args:
        name: name of the dataset.
        metadata: further metadata, or a function that returns it and is called on first use.
        json_file: path or URL of the JSON file.
        image_root: folder to which ``file_name`` of the images is relative.
    """
    keys = ["point_coords", "point_labels"]
    DatasetCatalog.register(name, partial(load_coco_json, json_file, image_root, name, keys))
    set_metadata(name, metadata, json_file=json_file, image_root=image_root, evaluator_type="coco")


def register_all_coco_train_points(root: str) -> None:
    """Register COCO's training images with ten points of each object.

    Args:
        root: folder that contains ``coco``.
    """
    for name, (images, annotations) in _COCO_POINTS.items():
        register_coco_instances_with_points(
            name,
            partial(_get_builtin_metadata, "coco"),
            os.path.join(root, annotations),
            os.path.join(root, images),
        )


register_all_coco_train_points(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
