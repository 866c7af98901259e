"""Mappers with large-scale jitter, for COCO: instances, or things and stuff.

Reference: Simple Copy-Paste, https://arxiv.org/abs/2012.07177
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from detectron2.config import CfgNode, configurable
from detectron2.data import DATASET_MAPPER_REGISTRY
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances, PolygonMasks
from detectron2.utils.errors import BadValue

from .targets import instances_of_masks, segment_ids, segment_masks

__all__ = [
    "AugmentingMapper",
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "build_transform_gen",
]


def build_transform_gen(cfg: CfgNode, is_train: bool) -> list[T.Augmentation | T.Transform]:
    """Build the augmentations of ``INPUT``: flip, scale by ``MIN_SCALE`` to ``MAX_SCALE``, crop or pad to ``IMAGE_SIZE``.

    Args:
        cfg: config with the keys of :func:`.add_maskformer2_config`.
        is_train: must be True.
    """
    if not is_train:
        raise BadValue("large-scale jitter is for training only; for testing pass your own augmentations")
    node = cfg.INPUT
    augmentations: list[T.Augmentation | T.Transform] = []
    if node.RANDOM_FLIP != "none":
        horizontal = node.RANDOM_FLIP == "horizontal"
        augmentations.append(T.RandomFlip(horizontal=horizontal, vertical=not horizontal))
    side = node.IMAGE_SIZE
    augmentations.append(T.ResizeScale(node.MIN_SCALE, node.MAX_SCALE, side, side))
    augmentations.append(T.FixedSizeCrop((side, side)))
    return augmentations


class AugmentingMapper:
    """Base of mappers: reads and augments an image.

    Args:
        is_train: return annotations.
        tfm_gens: augmentations or transforms, in order of application.
        image_format: channel order.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        tfm_gens: Sequence[T.Augmentation | T.Transform],
        image_format: str,
    ) -> None:
        self.tfm_gens = list(tfm_gens)
        self.img_format = image_format
        self.is_train = is_train
        logging.getLogger(__name__).info(f"Augmentations used by {type(self).__name__}: {self.tfm_gens}")

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Read ``INPUT``."""
        gens = build_transform_gen(cfg, is_train)
        return {"is_train": is_train, "tfm_gens": gens, "image_format": cfg.INPUT.FORMAT}

    def read(self, dataset_dict: dict[str, Any]) -> tuple[dict[str, Any], T.TransformList]:
        """Return a copy of a record with its augmented image as a tensor, and the transforms."""
        record = copy.deepcopy(dataset_dict)
        image = utils.read_image(record["file_name"], format=self.img_format)
        utils.check_image_size(record, image)
        inputs = T.AugInput(image)
        transforms = T.AugmentationList(self.tfm_gens)(inputs)
        record["image"] = torch.as_tensor(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        return record, transforms  # type: ignore[return-value]

    def add_instances(
        self, record: dict[str, Any], transforms: T.Transform, boxes_of_masks: bool = True
    ) -> None:
        """Replace the ``annotations`` of a record by ``instances``; in testing, drop them.

        Args:
            record: record with its augmented image.
            transforms: transforms of the image.
            boxes_of_masks: compute boxes from the augmented masks instead of augmenting boxes.
        """
        annotations = record.pop("annotations", None)
        if annotations is None or not self.is_train:
            return
        size = (int(record["image"].shape[1]), int(record["image"].shape[2]))
        single = [a for a in annotations if not a.get("iscrowd", 0)]
        for annotation in single:
            annotation.pop("keypoints", None)
            utils.transform_instance_annotations(annotation, transforms, size)
        record["instances"] = _instances(single, size, boxes_of_masks)


@DATASET_MAPPER_REGISTRY.register(name="coco_instance_lsj")
class COCOInstanceNewBaselineDatasetMapper(AugmentingMapper):
    """Convert records in COCO format to inputs for instance segmentation.

    The result has ``image``, uint8 [C, H, W]; ``padding_mask``, bool [H, W], True where a label map of ones would be 0
    (crops pad label maps with 255, so that their padding does not count); and in training ``instances`` with
    ``gt_boxes``, ``gt_classes`` and ``gt_masks``, a uint8 tensor [T, H, W].

    Args:
        is_train: in testing, annotations are dropped.
        tfm_gens: augmentations or transforms, in order of application.
        image_format: channel order.
    """

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one record, without changing it."""
        record, transforms = self.read(dataset_dict)
        labels = transforms.apply_segmentation(np.ones((record["height"], record["width"])))
        record["padding_mask"] = torch.as_tensor(np.ascontiguousarray(labels == 0))
        self.add_instances(record, transforms)
        return record


def _instances(annotations: list[dict[str, Any]], size: tuple[int, int], boxes_of_masks: bool) -> Instances:
    """Convert transformed annotations, polygons or masks, to Instances, without those that a crop removed."""
    if not annotations:
        none = torch.zeros(0, *size, dtype=torch.uint8)
        found = instances_of_masks([], none, with_boxes=True)
        found.gt_masks = none
        return found
    polygons = all(isinstance(a["segmentation"], list) for a in annotations)
    instances = utils.annotations_to_instances(annotations, size, "polygon" if polygons else "bitmask")
    if boxes_of_masks:
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    kept = utils.filter_empty_instances(instances)
    assert isinstance(kept, Instances)
    masks = kept.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *size)
    kept.gt_masks = masks.tensor.to(torch.uint8)
    return kept


@DATASET_MAPPER_REGISTRY.register(name="coco_panoptic_lsj")
class COCOPanopticNewBaselineDatasetMapper(AugmentingMapper):
    """Convert records in COCO panoptic format to inputs for panoptic segmentation.

    The result has ``image``, uint8 [C, H, W], and in training ``instances``, the segments that are not crowds, with
    ``gt_boxes``, ``gt_classes`` and ``gt_masks``, a bool tensor [T, H, W].

    Args:
        is_train: in testing, annotations are dropped.
        tfm_gens: augmentations or transforms, in order of application.
        image_format: channel order.
    """

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one record, without changing it."""
        record, transforms = self.read(dataset_dict)
        if not self.is_train:
            record.pop("annotations", None)
        elif "pan_seg_file_name" in record:
            picture = transforms.apply_segmentation(utils.read_image(record.pop("pan_seg_file_name"), "RGB"))
            ids = torch.from_numpy(segment_ids(picture))
            classes, masks = segment_masks(ids, record["segments_info"])
            record["instances"] = instances_of_masks(classes, masks, with_boxes=True)
        return record
