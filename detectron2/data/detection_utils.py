"""Building blocks of data set mappers: read an image, transform its annotations, build augmentations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectron2.config import CfgNode
from detectron2.structures import BoxMode
from detectron2.structures.masks import polygons_to_bitmask
from detectron2.utils.errors import BadValue
from detectron2.utils.image_io import (
    _M_RGB2YUV,
    _M_YUV2RGB,
    _apply_exif_orientation,
    convert_image_to_rgb,
    convert_PIL_to_numpy,
    read_image,
    read_label_map,
)
from detectron2.utils.reexports import passed_on

from . import transforms as T
from .annotations import (
    annotations_to_instances,
    annotations_to_instances_rotated,
    filter_empty_instances,
    transform_instance_annotations,
    transform_keypoint_annotations,
    transform_proposals,
)
from .metadata_facts import (
    check_metadata_consistency,
    create_keypoint_hflip_indices,
    get_fed_loss_cls_weights,
)

__all__ = [
    "_M_RGB2YUV",
    "_M_YUV2RGB",
    "SizeMismatchError",
    "_apply_exif_orientation",
    "annotations_to_instances",
    "annotations_to_instances_rotated",
    "build_augmentation",
    "build_transform_gen",
    "check_image_size",
    "check_metadata_consistency",
    "convert_PIL_to_numpy",
    "convert_image_to_rgb",
    "create_keypoint_hflip_indices",
    "filter_empty_instances",
    "gen_crop_transform_with_instance",
    "get_bbox",
    "get_fed_loss_cls_weights",
    "polygons_to_bitmask",
    "read_image",
    "read_label_map",
    "transform_instance_annotations",
    "transform_keypoint_annotations",
    "transform_proposals",
]

__getattr__ = passed_on(__name__)


class SizeMismatchError(ValueError):
    """The image file does not have the size that its record states."""


def check_image_size(dataset_dict: dict[str, Any], image: np.ndarray) -> None:
    """Check an image against ``width`` and ``height`` of its record, or add these if they are missing.

    Args:
        dataset_dict: record of the image; changed in place if it has no size.
        image: array (H, W) or (H, W, C), as read from the file.

    Raises:
        SizeMismatchError: if the sizes differ.
    """
    height, width = image.shape[:2]
    expected = dataset_dict.get("width", width), dataset_dict.get("height", height)
    if expected != (width, height):
        name = f" {dataset_dict['file_name']}" if "file_name" in dataset_dict else ""
        turned = expected == (height, width)
        raise SizeMismatchError(
            f"the image{name} is {width} wide and {height} high, but its record says {expected[0]} wide and "
            f"{expected[1]} high. "
            + (
                "Width and height are swapped: most likely the labels refer to the image as stored, while its EXIF "
                "tag rotates it. Save the file upright without the tag, or rotate the recorded size and the labels."
                if turned
                else "Correct width and height in the data set, or replace the file."
            )
        )
    dataset_dict.setdefault("width", width)
    dataset_dict.setdefault("height", height)


def get_bbox(annotation: dict[str, Any]) -> np.ndarray:
    """Return the box of an annotation as an array of absolute (x0, y0, x1, y1)."""
    return np.asarray(BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS))


def gen_crop_transform_with_instance(
    crop_size: tuple[int, int], image_size: tuple[int, int], instance: dict[str, Any]
) -> T.CropTransform:
    """Draw a random crop that contains the centre of an instance, to within a pixel.

    Args:
        crop_size: (height, width) in pixels; clipped to the image.
        image_size: (height, width).
        instance: an annotation with ``bbox`` and ``bbox_mode``.

    Raises:
        ValueError: if the centre of the box is outside of the image.
    """
    size = np.asarray(image_size, dtype=np.int64)
    crop = np.minimum(np.asarray(crop_size, dtype=np.int64), size)
    box = get_bbox(instance)
    center = np.asarray([box[1] + box[3], box[0] + box[2]]) * 0.5  # (y, x)
    if (center < 0).any() or (center > size).any():
        raise BadValue(
            f"the centre (x, y) = {tuple(center[::-1])} of the box is outside of the image {image_size}"
        )
    first = np.maximum(np.floor(center).astype(np.int64) - crop, 0)
    last = np.minimum(size - crop, np.ceil(center).astype(np.int64))
    y0, x0 = (int(np.random.randint(low, high + 1)) for low, high in zip(first, last))
    return T.CropTransform(x0, y0, int(crop[1]), int(crop[0]), int(size[1]), int(size[0]))


def build_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Build the default augmentations of a config: resize, and in training a random flip.

    ``INPUT.CROP`` is not included; :class:`DatasetMapper` adds it in front.

    Args:
        cfg: a config with the keys of ``INPUT``.
        is_train: whether the augmentations are for training.
    """
    backend = cfg.INPUT.get("RESIZE_BACKEND", "pillow")
    if backend not in _RESIZE_BACKENDS:
        raise BadValue(f"INPUT.RESIZE_BACKEND must be one of {sorted(_RESIZE_BACKENDS)}, got {backend!r}")
    sizes: int | Sequence[int]
    if is_train:
        sizes, longest = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN
        style = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    else:
        sizes, longest, style = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice"
    interp = _RESIZE_BACKENDS[backend]
    augmentations: list[T.Augmentation] = [T.ResizeShortestEdge(sizes, longest, style, interp)]
    if is_train and cfg.INPUT.RANDOM_FLIP != "none":
        direction = cfg.INPUT.RANDOM_FLIP
        if direction not in ("horizontal", "vertical"):
            raise BadValue(f"INPUT.RANDOM_FLIP must be 'horizontal', 'vertical' or 'none', got {direction!r}")
        augmentations.append(
            T.RandomFlip(horizontal=direction == "horizontal", vertical=direction == "vertical")
        )
    return augmentations


_RESIZE_BACKENDS: dict[str, int | str] = {"pillow": 2, "torch": "fast"}  # 2 is Pillow's bilinear

build_transform_gen = build_augmentation
