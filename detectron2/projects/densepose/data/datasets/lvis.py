"""Datasets in LVIS format with DensePose annotations of people and animals."""

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.reexports import passed_on

from .coco import (
    DENSEPOSE_ALL_POSSIBLE_KEYS,
    DENSEPOSE_METADATA_URL_PREFIX,
    CocoDatasetInfo,
    register_with_loader,
)
from .records import read_records

__all__ = [
    "DATASETS",
    "DENSEPOSE_ALL_POSSIBLE_KEYS",
    "DENSEPOSE_METADATA_URL_PREFIX",
    "DatasetCatalog",
    "MetadataCatalog",
    "load_lvis_json",
    "register_dataset",
    "register_datasets",
]

__getattr__ = passed_on(
    __name__,
    (
        "projects.densepose.data.datasets.coco.get_metadata",
        "projects.densepose.data.utils.maybe_prepend_base_path",
    ),
)

logger = logging.getLogger(__name__)

# The folder of an image, train2017 or val2017, is part of its URL in the file; "coco_" is prepended.
DATASETS = [
    CocoDatasetInfo(f"densepose_lvis_v1_{split}", "coco_", f"lvis/densepose_lvis_v1_{file}.json")
    for split, file in (
        ("ds1_train_v1", "ds1_train_v1"),
        ("ds1_val_v1", "ds1_val_v1"),
        ("ds2_train_v1", "ds2_train_v1"),
        ("ds2_val_v1", "ds2_val_v1"),
        ("ds1_val_animals_100", "val_animals_100_v2"),
    )
]


def load_lvis_json(annotations_json_file: str, image_root: str, dataset_name: str) -> list[dict[str, Any]]:
    """Load a file in LVIS format with DensePose annotations.

    Writes ``categories`` (id to name) to the metadata of the dataset.

    Args:
        annotations_json_file: path or URL of the JSON file.
        image_root: prefix of ``train2017/...`` or ``val2017/...`` in the paths of the images.
        dataset_name: name of the dataset.

    Returns:
        Records in the order of the image ids, with ``category_id`` as in the file, DensePose's keys in the
        annotations, LVIS's lists ``not_exhaustive_category_ids`` and ``neg_category_ids``, and the name of the
        dataset under ``dataset``.

    Raises:
        ValueError: ids are used twice, or an annotation lacks a box.
    """

    def fields_of_image(image: Mapping[str, Any]) -> dict[str, Any]:
        folder, name = image["coco_url"].split("/")[-2:]
        return {
            "file_name": os.path.join(image_root + folder, name),
            "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
            "neg_category_ids": image.get("neg_category_ids", []),
        }

    records, categories = read_records(
        annotations_json_file, dataset_name, DENSEPOSE_ALL_POSSIBLE_KEYS, fields_of_image
    )
    MetadataCatalog.get(dataset_name).categories = categories
    return records


def register_dataset(dataset_data: CocoDatasetInfo, datasets_root: str | None = None) -> None:
    """Register a dataset in LVIS format; its file is read when the dataset is first used.

    Args:
        dataset_data: name and files.
        datasets_root: folder to which paths are relative.
    """
    register_with_loader(dataset_data, datasets_root, load_lvis_json, evaluator_type="lvis")


def register_datasets(datasets_data: Iterable[CocoDatasetInfo], datasets_root: str | None = None) -> None:
    """Register several datasets, see :func:`register_dataset`."""
    for dataset_data in datasets_data:
        register_dataset(dataset_data, datasets_root)
