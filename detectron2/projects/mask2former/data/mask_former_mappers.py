"""Mappers that resize, crop, change colours and flip, for ADE20K, Cityscapes and Mapillary Vistas.

Reference: MaskFormer, https://arxiv.org/abs/2107.06278
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detectron2.config import CfgNode, configurable
from detectron2.data import DATASET_MAPPER_REGISTRY, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from detectron2.projects.point_rend.semantic_augmentation import build_sem_seg_train_aug
from detectron2.structures import BitMasks
from detectron2.utils.errors import BadValue

from .targets import IMAGE_PADDING, instances_of_masks, pad_to, segment_ids, segment_masks

__all__ = [
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
]


def _chw(image: np.ndarray) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))


class _TrainingMapper:
    """Base of these mappers: for training only, with optional padding to a fixed size."""

    def __init__(
        self,
        is_train: bool,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        size_divisibility: int,
    ) -> None:
        self.is_train = is_train
        self.tfm_gens = list(augmentations)
        self.img_format = image_format
        self.size_divisibility = size_divisibility
        logging.getLogger(__name__).info(f"Augmentations used by {type(self).__name__}: {self.tfm_gens}")

    def _read(self, dataset_dict: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        if not self.is_train:
            raise BadValue(f"{type(self).__name__} is for training; use DatasetMapper for testing")
        record = copy.deepcopy(dataset_dict)
        image = utils.read_image(record["file_name"], format=self.img_format)
        utils.check_image_size(record, image)
        return record, image

    def _padded(self, map: Tensor, value: float) -> Tensor:
        return pad_to(map, self.size_divisibility, value) if self.size_divisibility > 0 else map


@DATASET_MAPPER_REGISTRY.register(name="mask_former_semantic")
class MaskFormerSemanticDatasetMapper(_TrainingMapper):
    """Convert records to inputs for semantic segmentation: every class of the label map is one mask.

    The result has ``image``, uint8 [C, H, W]; ``sem_seg``, int64 [H, W]; and ``instances`` with ``gt_classes`` and
    ``gt_masks``, a bool tensor [T, H, W]. For training only.

    Args:
        is_train: must be True when records are mapped.
        augmentations: augmentations or transforms, in order of application.
        image_format: channel order.
        ignore_label: label of pixels without a class.
        size_divisibility: side to which images are padded; negative = no padding.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        ignore_label: int,
        size_divisibility: int,
    ) -> None:
        super().__init__(is_train, augmentations, image_format, size_divisibility)
        self.ignore_label = ignore_label

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Read ``INPUT`` and the metadata of the first dataset in ``DATASETS.TRAIN``."""
        return {
            "is_train": is_train,
            "augmentations": build_sem_seg_train_aug(cfg),
            "image_format": cfg.INPUT.FORMAT,
            "ignore_label": MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).ignore_label,
            "size_divisibility": cfg.INPUT.SIZE_DIVISIBILITY,
        }

    def _augment(self, record: dict[str, Any], image: np.ndarray) -> T.Transform:
        """Augment image and label map together, and put both into the record."""
        labels = record.pop("sem_seg_file_name", None)
        # As floats: resizing then picks the pixels that released weights were trained on.
        sem_seg = None if labels is None else utils.read_label_map(labels).astype(np.float64)
        inputs = T.AugInput(image, sem_seg=sem_seg)
        transforms = T.AugmentationList(self.tfm_gens)(inputs)
        record["image"] = self._padded(_chw(inputs.image), IMAGE_PADDING)
        if inputs.sem_seg is not None:
            augmented = torch.as_tensor(np.ascontiguousarray(inputs.sem_seg).astype(np.int64))
            record["sem_seg"] = self._padded(augmented, self.ignore_label)
        return transforms

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one record, without changing it."""
        record, image = self._read(dataset_dict)
        if "sem_seg_file_name" not in record:
            raise BadValue(
                f"semantic segmentation needs a label map, but the record of {record['file_name']} has no "
                "'sem_seg_file_name'"
            )
        if "annotations" in record:
            raise BadValue(
                "records of a semantic dataset must not have 'annotations'; use another mapper for instances"
            )
        self._augment(record, image)
        present = record["sem_seg"].unique()
        classes = present[present != self.ignore_label]
        masks = record["sem_seg"] == classes[:, None, None]
        record["instances"] = instances_of_masks(classes.tolist(), masks)
        return record


@DATASET_MAPPER_REGISTRY.register(name="mask_former_panoptic")
class MaskFormerPanopticDatasetMapper(MaskFormerSemanticDatasetMapper):
    """Convert records to inputs for panoptic segmentation: every segment that is not a crowd is one mask.

    The result has ``image``, uint8 [C, H, W]; ``sem_seg``, int64 [H, W], if records have a label map; and
    ``instances`` with ``gt_classes`` and ``gt_masks``, a bool tensor [T, H, W]. For training only.

    Args:
        is_train: must be True when records are mapped.
        augmentations: augmentations or transforms, in order of application.
        image_format: channel order.
        ignore_label: label of pixels without a class.
        size_divisibility: side to which images are padded; negative = no padding.
    """

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one record, without changing it."""
        record, image = self._read(dataset_dict)
        if "pan_seg_file_name" not in record:
            raise BadValue(
                f"panoptic segmentation needs a segment file, but the record of {record['file_name']} has no "
                "'pan_seg_file_name'"
            )
        if "annotations" in record:
            raise BadValue("records of a panoptic dataset must have 'segments_info' instead of 'annotations'")
        transforms = self._augment(record, image)
        picture = transforms.apply_segmentation(utils.read_image(record.pop("pan_seg_file_name"), "RGB"))
        ids = self._padded(torch.from_numpy(segment_ids(picture)), 0)
        classes, masks = segment_masks(ids, record["segments_info"])
        record["instances"] = instances_of_masks(classes, masks)
        return record


@DATASET_MAPPER_REGISTRY.register(name="mask_former_instance")
class MaskFormerInstanceDatasetMapper(_TrainingMapper):
    """Convert records in COCO format to inputs for instance segmentation.

    The result has ``image``, uint8 [C, H, W], and ``instances`` with ``gt_classes`` and ``gt_masks``, a bool tensor
    [T, H, W], without objects that a crop removed. For training only.

    Args:
        is_train: must be True when records are mapped.
        augmentations: augmentations or transforms, in order of application.
        image_format: channel order.
        size_divisibility: side to which images are padded; negative = no padding.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        size_divisibility: int,
    ) -> None:
        super().__init__(is_train, augmentations, image_format, size_divisibility)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Read ``INPUT``."""
        node = cfg.INPUT
        augmentations: list[T.Augmentation | T.Transform] = [
            T.ResizeShortestEdge(node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, node.MIN_SIZE_TRAIN_SAMPLING)
        ]
        if node.CROP.ENABLED:
            augmentations.append(T.RandomCrop(node.CROP.TYPE, node.CROP.SIZE))
        if node.COLOR_AUG_SSD:
            augmentations.append(ColorAugSSDTransform(img_format=node.FORMAT))
        augmentations.append(T.RandomFlip())
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": node.FORMAT,
            "size_divisibility": node.SIZE_DIVISIBILITY,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one record, without changing it."""
        record, image = self._read(dataset_dict)
        if "annotations" not in record:
            raise BadValue(f"the record of {record['file_name']} has no 'annotations'")
        inputs = T.AugInput(image)
        transforms = T.AugmentationList(self.tfm_gens)(inputs)
        size = inputs.image.shape[:2]
        annotations = [
            utils.transform_instance_annotations(a, transforms, size)
            for a in record.pop("annotations")
            if not a.get("iscrowd", 0)
        ]
        masks = torch.zeros(0, *size, dtype=torch.bool)
        if annotations:
            found = utils.annotations_to_instances(annotations, size, mask_format="bitmask").gt_masks
            assert isinstance(found, BitMasks)
            masks = found.tensor
        left = masks.flatten(1).any(1)
        classes = [a["category_id"] for a, keep in zip(annotations, left.tolist()) if keep]
        record["image"] = self._padded(_chw(inputs.image), IMAGE_PADDING)
        record["instances"] = instances_of_masks(classes, self._padded(masks[left], 0))
        return record
