"""Convert records with DensePose annotations to model inputs."""

from typing import Any

import numpy as np
import torch

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper as CoreDatasetMapper
from detectron2.data import MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.layers import paste_masks_in_image
from detectron2.utils.file_io import PathManager

from ..structures.data_relative import DensePoseDataRelative
from ..structures.list import DensePoseList
from ..structures.transform_data import DensePoseTransformData

__all__ = ["DatasetMapper", "MetadataCatalog", "build_augmentation"]


def build_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Build the augmentations of a config: those of the core, and a rotation in training.

    Args:
        cfg: config with ``INPUT.ROTATION_ANGLES``, in degrees, one of which is drawn for each image.
        is_train: build augmentations for training instead of testing.
    """
    augmentations = utils.build_augmentation(cfg, is_train)
    if is_train:
        angles = list(cfg.INPUT.ROTATION_ANGLES)
        augmentations.append(T.RandomRotation(angles, expand=False, sample_style="choice"))
    return augmentations


def _load_symmetries(cfg: CfgNode) -> DensePoseTransformData:
    """Return the symmetry tables, which all datasets of a config must share."""
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    sources = {name: MetadataCatalog.get(name).densepose_transform_src for name in names}
    if len(set(sources.values())) != 1:
        raise ValueError(
            "datasets that are used together must have the same metadata densepose_transform_src, "
            f"got {sources or 'no datasets in DATASETS.TRAIN and DATASETS.TEST'}"
        )
    return DensePoseTransformData.load(PathManager.get_local_path(next(iter(sources.values()))))


class DatasetMapper(CoreDatasetMapper):
    """Read an image, augment it with its annotations, and convert them to tensors.

    Like the core's mapper; the instances also have ``gt_densepose``, a :class:`DensePoseList`, if an annotation of the
    image has DensePose data. Images are not cropped, since DensePose data is relative to whole boxes.

    Args:
        cfg: a config with the keys of DensePose.
        is_train: map for training; for testing, drop annotations.
    """

    def __init__(self, cfg: CfgNode, is_train: bool = True) -> None:
        self.augmentation = build_augmentation(cfg, is_train)
        self.densepose_on = cfg.MODEL.DENSEPOSE_ON
        by_masks = self.densepose_on and cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS
        keypoint_on = cfg.MODEL.KEYPOINT_ON and is_train
        super().__init__(
            is_train,
            augmentations=self.augmentation,
            image_format=cfg.INPUT.FORMAT,
            use_instance_mask=cfg.MODEL.MASK_ON or by_masks,
            use_keypoint=cfg.MODEL.KEYPOINT_ON,
            instance_mask_format="bitmask",
            keypoint_hflip_indices=(
                utils.create_keypoint_hflip_indices(cfg.DATASETS.TRAIN) if keypoint_on else None
            ),
        )
        if is_train and self.densepose_on:
            self.densepose_transform_data = _load_symmetries(cfg)

    def map_loaded(
        self, record: dict[str, Any], image: np.ndarray, sem_seg: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Map a record whose image is in memory; the image becomes float32, see the core's mapper."""
        record = super().map_loaded(record, image, sem_seg)
        record["image"] = record["image"].float()
        return record

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: Any, image_shape: tuple[int, int]
    ) -> None:
        """Replace ``annotations`` by ``instances``, without crowd regions."""
        annos = [a for a in dataset_dict.pop("annotations") if not a.get("iscrowd", 0)]
        for annotation in annos:
            if not self.use_instance_mask:
                annotation.pop("segmentation", None)
            if not self.use_keypoint:
                annotation.pop("keypoints", None)
            utils.transform_instance_annotations(
                annotation, transforms, image_shape, keypoint_hflip_indices=self.keypoint_hflip_indices
            )
        datas = [self._densepose_of(annotation, transforms) for annotation in annos]
        if self.use_instance_mask:
            for annotation, data in zip(annos, datas):
                if "segmentation" not in annotation and data is not None and hasattr(data, "segm"):
                    annotation["segmentation"] = _mask_from_parts(data, annotation["bbox"], image_shape)
        instances = utils.annotations_to_instances(annos, image_shape, mask_format=self.instance_mask_format)
        if any(data is not None for data in datas):
            instances.gt_densepose = DensePoseList(datas, instances.gt_boxes.tensor, image_shape)
        dataset_dict["instances"] = instances[instances.gt_boxes.nonempty()]

    def _densepose_of(self, annotation: dict[str, Any], transforms: Any) -> DensePoseDataRelative | None:
        """Return the transformed DensePose data of an annotation; None = incomplete."""
        if self.densepose_on and DensePoseDataRelative.validate_annotation(annotation)[0]:
            data = DensePoseDataRelative(annotation, cleanup=True)
            data.apply_transform(transforms, self.densepose_transform_data)
            return data
        DensePoseDataRelative.cleanup_annotation(annotation)
        return None


def _mask_from_parts(data: DensePoseDataRelative, box: object, image_shape: tuple[int, int]) -> np.ndarray:
    """Paste the annotated body parts into an image as one mask, uint8 (H, W)."""
    body = (data.segm > 0).float()[None]
    boxes = torch.as_tensor(np.asarray(box, dtype=np.float32))[None]
    return paste_masks_in_image(body, boxes, image_shape, threshold=0.5)[0].numpy().astype(np.uint8)
