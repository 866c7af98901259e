"""Convert records of a panoptic dataset to training inputs of Panoptic-DeepLab."""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures.types import DatasetRecord

from .target_generator import PanopticDeepLabTargetGenerator

__all__ = ["PanopticDeeplabDatasetMapper"]


class PanopticDeeplabDatasetMapper:
    """Read an image and its panoptic PNG, augment both, and make targets.

    For training only. The result has ``image``, uint8 [C, H, W], and the targets of
    :class:`PanopticDeepLabTargetGenerator`.

    Args:
        augmentations: augmentations or transforms, in order of application.
        image_format: channel order, see :func:`detectron2.data.detection_utils.read_image`.
        panoptic_target_generator: makes targets from segment ids [H, W] and ``segments_info``.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        panoptic_target_generator: PanopticDeepLabTargetGenerator,
    ) -> None:
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.panoptic_target_generator = panoptic_target_generator
        logging.getLogger(__name__).info(f"Augmentations used in training: {list(augmentations)}")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``INPUT`` and the metadata of the first dataset in ``DATASETS.TRAIN``."""
        augmentations = utils.build_augmentation(cfg, is_train=True)
        if cfg.INPUT.CROP.ENABLED:
            augmentations.insert(1, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        meta = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        generator = PanopticDeepLabTargetGenerator(
            ignore_label=meta.ignore_label,
            thing_ids=meta.thing_dataset_id_to_contiguous_id.values(),
            sigma=cfg.INPUT.GAUSSIAN_SIGMA,
            ignore_stuff_in_offset=cfg.INPUT.IGNORE_STUFF_IN_OFFSET,
            small_instance_area=cfg.INPUT.SMALL_INSTANCE_AREA,
            small_instance_weight=cfg.INPUT.SMALL_INSTANCE_WEIGHT,
            ignore_crowd_in_semantic=cfg.INPUT.IGNORE_CROWD_IN_SEMANTIC,
        )
        return {
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "panoptic_target_generator": generator,
        }

    def __call__(self, dataset_dict: DatasetRecord) -> dict[str, Any]:
        """Map one record.

        Args:
            dataset_dict: record with ``file_name``, ``pan_seg_file_name`` and ``segments_info``; not changed.
        """
        record: dict[str, Any] = dict(copy.deepcopy(dataset_dict))
        image = utils.read_image(record["file_name"], self.image_format)
        utils.check_image_size(record, image)
        # Augment the PIL image itself, so that each resampling filter uses the same pixels as in Detectron2.
        inputs = T.AugInput(image, sem_seg=utils.read_image(record.pop("pan_seg_file_name"), "RGB"))
        self.augmentations(inputs)
        assert inputs.sem_seg is not None
        segments = inputs.sem_seg.astype(np.int32) @ np.array([1, 256, 256**2], np.int32)
        record["image"] = torch.from_numpy(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        record.update(self.panoptic_target_generator(segments, record["segments_info"]))
        return record
