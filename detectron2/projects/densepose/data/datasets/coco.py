"""Datasets in COCO format with DensePose annotations.

Reference: Güler et al., DensePose: Dense Human Pose Estimation In The Wild, https://arxiv.org/abs/1802.00434
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..utils import maybe_prepend_base_path
from .records import read_records

__all__ = [
    "BASE_DATASETS",
    "DATASETS",
    "DENSEPOSE_ALL_POSSIBLE_KEYS",
    "DENSEPOSE_CSE_KEYS_WITHOUT_MASK",
    "DENSEPOSE_IUV_KEYS_WITHOUT_MASK",
    "DENSEPOSE_MASK_KEY",
    "DENSEPOSE_METADATA_URL_PREFIX",
    "CocoDatasetInfo",
    "create_video_frame_mapping",
    "get_contiguous_id_to_category_id_map",
    "get_metadata",
    "load_coco_json",
    "maybe_filter_and_map_categories_cocoapi",
    "maybe_filter_categories_cocoapi",
    "register_dataset",
    "register_datasets",
]

logger = logging.getLogger(__name__)

DENSEPOSE_MASK_KEY = "dp_masks"
DENSEPOSE_IUV_KEYS_WITHOUT_MASK = ["dp_x", "dp_y", "dp_I", "dp_U", "dp_V"]
DENSEPOSE_CSE_KEYS_WITHOUT_MASK = ["dp_x", "dp_y", "dp_vertex", "ref_model"]
DENSEPOSE_ALL_POSSIBLE_KEYS = {
    *DENSEPOSE_IUV_KEYS_WITHOUT_MASK,
    *DENSEPOSE_CSE_KEYS_WITHOUT_MASK,
    DENSEPOSE_MASK_KEY,
}
DENSEPOSE_METADATA_URL_PREFIX = "https://dl.fbaipublicfiles.com/densepose/data/"


@dataclass
class CocoDatasetInfo:
    """Name and files of a dataset.

    Attributes:
        name: name to register.
        images_root: folder of the images.
        annotations_fpath: JSON file.
    """

    name: str
    images_root: str
    annotations_fpath: str


# Name, images, annotations; relative to one folder.
DATASETS = [
    CocoDatasetInfo(*row)
    for row in (
        ("densepose_coco_2014_train", "coco/train2014", "coco/annotations/densepose_train2014.json"),
        ("densepose_coco_2014_minival", "coco/val2014", "coco/annotations/densepose_minival2014.json"),
        ("densepose_coco_2014_minival_100", "coco/val2014", "coco/annotations/densepose_minival2014_100.json"),
        ("densepose_coco_2014_valminusminival", "coco/val2014", "coco/annotations/densepose_valminusminival2014.json"),
        ("densepose_coco_2014_train_cse", "coco/train2014", "coco_cse/densepose_train2014_cse.json"),
        ("densepose_coco_2014_minival_cse", "coco/val2014", "coco_cse/densepose_minival2014_cse.json"),
        ("densepose_coco_2014_minival_100_cse", "coco/val2014", "coco_cse/densepose_minival2014_100_cse.json"),
        ("densepose_coco_2014_valminusminival_cse", "coco/val2014", "coco_cse/densepose_valminusminival2014_cse.json"),
        ("densepose_chimps", "densepose_chimps/images", "densepose_chimps/densepose_chimps_densepose.json"),
        ("densepose_chimps_cse_train", "densepose_chimps/images", "densepose_chimps/densepose_chimps_cse_train.json"),
        ("densepose_chimps_cse_val", "densepose_chimps/images", "densepose_chimps/densepose_chimps_cse_val.json"),
        ("posetrack2017_train", "posetrack2017/posetrack_data_2017", "posetrack2017/densepose_posetrack_train2017.json"),
        ("posetrack2017_val", "posetrack2017/posetrack_data_2017", "posetrack2017/densepose_posetrack_val2017.json"),
        ("lvis_v05_train", "coco/train2017", "lvis/lvis_v0.5_plus_dp_train.json"),
        ("lvis_v05_val", "coco/val2017", "lvis/lvis_v0.5_plus_dp_val.json"),
    )
]  # fmt: skip
BASE_DATASETS = [
    CocoDatasetInfo(f"base_coco_2017_{name}", f"coco/{name[:3] if 'val' in name else name}2017", f"coco/annotations/instances_{split}.json")
    for name, split in (("train", "train2017"), ("val", "val2017"), ("val_100", "val2017_100"))
]  # fmt: skip
"""COCO's own annotations, with the categories of the file"""


def get_metadata(base_path: str | None) -> dict[str, Any]:
    """Return the files that every DensePose dataset needs: symmetry tables and the subdivided SMPL surface.

    Args:
        base_path: folder or URL that contains them; None = bare file names.
    """
    files = {
        "densepose_transform_src": "UV_symmetry_transforms.mat",
        "densepose_smpl_subdiv": "SMPL_subdiv.mat",
        "densepose_smpl_subdiv_transform": "SMPL_SUBDIV_TRANSFORM.mat",
    }
    return {key: maybe_prepend_base_path(base_path, name) for key, name in files.items()}


def load_coco_json(annotations_json_file: str, image_root: str, dataset_name: str) -> list[dict[str, Any]]:
    """Load a file in COCO format with DensePose annotations.

    Writes ``categories`` (id to name) to the metadata of the dataset, and ``video_frame_mapping`` if the images
    are frames of videos.

    Args:
        annotations_json_file: path or URL of the JSON file.
        image_root: folder to which ``file_name`` of the images is relative.
        dataset_name: name of the dataset.

    Returns:
        Records in the order of the image ids, with ``category_id`` as in the file, DensePose's keys in the
        annotations, the name of the dataset under ``dataset``; frames also have ``frame_id`` and ``video_id``.

    Raises:
        ValueError: ids are used twice, or an annotation lacks a box.
    """
    records, categories = read_records(
        annotations_json_file,
        dataset_name,
        DENSEPOSE_ALL_POSSIBLE_KEYS,
        lambda image: {"file_name": os.path.join(image_root, image["file_name"]), **_frame_of(image)},
    )
    MetadataCatalog.get(dataset_name).categories = categories
    create_video_frame_mapping(dataset_name, records)
    return records


def _frame_of(image: Mapping[str, Any]) -> dict[str, Any]:
    if "frame_id" not in image:
        return {}
    return {"frame_id": image["frame_id"], "video_id": image.get("vid_id")}


def create_video_frame_mapping(dataset_name: str, dataset_dicts: Iterable[Mapping[str, Any]]) -> None:
    """Write ``video_frame_mapping``, from videos and frames to files, to the metadata.

    Args:
        dataset_name: name of the dataset.
        dataset_dicts: records; those without ``video_id`` are skipped.
    """
    mapping: dict[Any, dict[Any, str]] = {}
    for record in dataset_dicts:
        if record.get("video_id") is not None:
            mapping.setdefault(record["video_id"], {})[record["frame_id"]] = record["file_name"]
    MetadataCatalog.get(dataset_name).video_frame_mapping = mapping


def register_dataset(dataset_data: CocoDatasetInfo, datasets_root: str | None = None) -> None:
    """Register a dataset in COCO format; its file is read when the dataset is first used.

    Args:
        dataset_data: name and files.
        datasets_root: folder to which paths are relative.
    """
    register_with_loader(dataset_data, datasets_root, load_coco_json)


def register_with_loader(
    dataset_data: CocoDatasetInfo,
    datasets_root: str | None,
    load: Callable[[str, str, str], list[dict[str, Any]]],
    **metadata: object,
) -> None:
    """Register a dataset with a loading function.

    Args:
        dataset_data: name and files.
        datasets_root: folder to which paths are relative.
        load: called with the JSON file, the folder of the images and the name.
        **metadata: further metadata.
    """
    name = dataset_data.name
    annotations = maybe_prepend_base_path(datasets_root, dataset_data.annotations_fpath)
    images = maybe_prepend_base_path(datasets_root, dataset_data.images_root)
    DatasetCatalog.register(name, lambda: load(annotations, images, name))
    MetadataCatalog.get(name).set(
        json_file=annotations, image_root=images, **get_metadata(DENSEPOSE_METADATA_URL_PREFIX), **metadata
    )


def register_datasets(datasets_data: Iterable[CocoDatasetInfo], datasets_root: str | None = None) -> None:
    """Register several datasets, see :func:`register_dataset`."""
    for dataset_data in datasets_data:
        register_dataset(dataset_data, datasets_root)


def get_contiguous_id_to_category_id_map(metadata: Any) -> dict[int, int]:
    """Invert ``thing_dataset_id_to_contiguous_id``; of merged categories the first represents all.

    Args:
        metadata: metadata of a dataset.

    Returns:
        Contiguous class number to category id.
    """
    inverse: dict[int, int] = {}
    for category, number in metadata.thing_dataset_id_to_contiguous_id.items():
        inverse.setdefault(number, category)
    return inverse


def maybe_filter_and_map_categories_cocoapi(dataset_name: str, coco_api: Any) -> None:
    """Keep only the used categories in a ``COCO`` object, with contiguous class numbers as ids.

    Args:
        dataset_name: dataset whose metadata has ``thing_dataset_id_to_contiguous_id``.
        coco_api: a ``pycocotools.coco.COCO``; changed in place.
    """
    numbers = MetadataCatalog.get(dataset_name).thing_dataset_id_to_contiguous_id
    content = coco_api.dataset
    categories: dict[int, dict[str, Any]] = {}
    for category in content["categories"]:
        if category["id"] in numbers:
            number = numbers[category["id"]]
            categories.setdefault(number, {**category, "id": number})
    content["categories"] = list(categories.values())
    content["annotations"] = _renumbered(content["annotations"], numbers)
    coco_api.createIndex()


def maybe_filter_categories_cocoapi(dataset_name: str, coco_api: Any) -> None:
    """Keep only the used categories in a ``COCO`` object, with the ids of the file; merged ones become one.

    Args:
        dataset_name: dataset whose metadata has ``thing_dataset_id_to_contiguous_id``.
        coco_api: a ``pycocotools.coco.COCO``; changed in place.
    """
    coco_api.dataset.update(filter_categories(MetadataCatalog.get(dataset_name), coco_api.dataset))
    coco_api.createIndex()


def filter_categories(metadata: Any, content: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Select the used categories and their annotations; of merged categories the first represents all.

    Args:
        metadata: metadata with ``thing_dataset_id_to_contiguous_id``.
        content: ``categories`` and ``annotations`` of a COCO file; not changed.

    Returns:
        New ``categories`` and ``annotations``.
    """
    representative = get_contiguous_id_to_category_id_map(metadata)
    numbers = metadata.thing_dataset_id_to_contiguous_id
    stands_for = {category: representative[number] for category, number in numbers.items()}
    kept = set(representative.values())
    return {
        "categories": [c for c in content["categories"] if c["id"] in kept],
        "annotations": _renumbered(content["annotations"], stands_for),
    }


def _renumbered(annotations: Sequence[Mapping[str, Any]], ids: Mapping[int, int]) -> list[dict[str, Any]]:
    """Copy the annotations whose category has a new id, with that id."""
    return [{**a, "category_id": ids[a["category_id"]]} for a in annotations if a["category_id"] in ids]
