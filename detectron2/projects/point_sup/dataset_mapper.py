"""Convert records with annotated points to model inputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from .detection_utils import annotations_to_instances, transform_instance_annotations

__all__ = ["PointSupDatasetMapper"]


class PointSupDatasetMapper(DatasetMapper):
    """Read an image, augment it with its boxes and points, and convert them to tensors.

    The result is that of :class:`detectron2.data.DatasetMapper`, but ``instances`` have ``gt_point_coords`` and
    ``gt_point_labels`` instead of masks.

    Args:
        is_train: in testing, annotations are dropped.
        augmentations: augmentations or transforms, in order of application.
        image_format: see :func:`detectron2.data.detection_utils.read_image`.
        sample_points: points to draw per object and iteration; 0 = all.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        sample_points: int = 0,
    ) -> None:
        super().__init__(is_train, augmentations=augmentations, image_format=image_format)
        self.sample_points = sample_points

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Read ``INPUT``.

        Raises:
            ValueError: ``INPUT.CROP`` is enabled: without masks, boxes of cropped objects cannot be made tight.
        """
        if cfg.INPUT.CROP.ENABLED and is_train:
            raise ValueError("training from points needs whole images: set INPUT.CROP.ENABLED to False")
        return {
            "is_train": is_train,
            "augmentations": utils.build_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "sample_points": cfg.INPUT.SAMPLE_POINTS,
        }

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.Transform, image_shape: tuple[int, int]
    ) -> None:
        annos = [a for a in dataset_dict.pop("annotations") if not a.get("iscrowd", 0)]
        for annotation in annos:
            annotation.pop("segmentation", None)
            annotation.pop("keypoints", None)
            if "point_coords" in annotation:  # pixel indices; pixel centres lie half a pixel further
                annotation["point_coords"] = np.asarray(annotation["point_coords"], dtype=np.float64) + 0.5
            transform_instance_annotations(annotation, transforms, image_shape)
        instances = annotations_to_instances(annos, image_shape, self.sample_points)
        dataset_dict["instances"] = utils.filter_empty_instances(instances)
