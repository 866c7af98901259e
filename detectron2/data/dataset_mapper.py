"""The default mapper from a record of a data set to a model input."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from detectron2.config import CfgNode, configurable
from detectron2.structures import BoxMode
from detectron2.utils.errors import BadValue
from detectron2.utils.registry import Registry

from . import detection_utils as utils
from . import transforms as T
from .annotations import boxes_as_xyxy, transform_annotations
from .records import WrongRecordError, check_annotations
from .transforms.operations.resample import to_chw_tensor

__all__ = ["DATASET_MAPPER_REGISTRY", "DatasetMapper", "build_train_mapper"]

DATASET_MAPPER_REGISTRY = Registry("DATASET_MAPPER")
DATASET_MAPPER_REGISTRY.__doc__ = """
Mappers for ``INPUT.DATASET_MAPPER_NAME``, a config key of some projects; called with ``(cfg, is_train)``.
"""


def build_train_mapper(cfg: CfgNode) -> Callable[[dict[str, Any]], Any]:
    """Build the mapper that ``INPUT.DATASET_MAPPER_NAME`` names; :class:`DatasetMapper` for configs without it."""
    name = cfg.INPUT.get("DATASET_MAPPER_NAME")
    if name is None:
        return DatasetMapper(cfg, True)
    if name not in DATASET_MAPPER_REGISTRY:
        logging.getLogger(__name__).warning(
            "No data set mapper is registered as INPUT.DATASET_MAPPER_NAME = %r; using DatasetMapper.",
            name,
        )
        return DatasetMapper(cfg, True)
    return DATASET_MAPPER_REGISTRY.get(name)(cfg, True)


def _copy_record(value: object) -> Any:
    """Copy the dicts, lists and arrays of a record; numbers and text are shared.

    For records this is as safe as ``copy.deepcopy`` and much faster: a list of numbers is copied at once.
    """
    if isinstance(value, dict):
        return {key: _copy_record(item) for key, item in value.items()}
    if isinstance(value, list):
        flat = not value or isinstance(value[0], (int, float))
        return value[:] if flat else [_copy_record(item) for item in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def _asks_for_boxes(augmentation: object) -> bool:
    """Return whether an augmentation, or one inside it, uses the boxes."""
    inner = [
        *getattr(augmentation, "augs", []),
        *([augmentation.aug] if hasattr(augmentation, "aug") else []),
    ]
    if inner:
        return any(_asks_for_boxes(a) for a in inner)
    code = getattr(getattr(type(augmentation), "get_transform", None), "__code__", None)
    return code is not None and "boxes" in code.co_varnames[: code.co_argcount]


class DatasetMapper:
    """Read an image, augment it together with its annotations, and convert both to tensors.

    Takes a record in Detectron2's format and returns one with ``image`` (uint8 tensor (C, H, W) in the order of
    ``image_format``) and, in training, ``instances``; also ``sem_seg`` (int64 tensor (H, W)) if the record has
    ``sem_seg_file_name``, and ``proposals`` if it has precomputed ones. The record itself is not changed.

    For other needs, subclass it (``_transform_annotations`` is meant to be overridden) or write a function.

    Args:
        is_train: keep annotations; without it they are dropped.
        augmentations: augmentations or transforms, in the order of their application.
        image_format: see :func:`detection_utils.read_image`.
        use_instance_mask: keep ``segmentation``.
        use_keypoint: keep ``keypoints``.
        instance_mask_format: "polygon", "bitmask" or "auto", see :func:`detection_utils.annotations_to_instances`.
        keypoint_hflip_indices: see :func:`detection_utils.create_keypoint_hflip_indices`.
        precomputed_proposal_topk: maximum number of precomputed proposals to keep; None to load none.
        recompute_boxes: compute boxes from the masks after augmentation, which are tighter than transformed boxes
            after a crop or a rotation; requires ``use_instance_mask``.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: np.ndarray | Sequence[int] | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ) -> None:
        if recompute_boxes and not use_instance_mask:
            raise BadValue("recompute_boxes computes boxes from masks: it needs use_instance_mask=True")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.use_keypoint = use_keypoint
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        self.recompute_boxes = recompute_boxes
        self._show_boxes = _asks_for_boxes(self.augmentations)
        phase = "training" if is_train else "inference"
        logging.getLogger(__name__).info(f"Augmentations used in {phase}: {list(augmentations)}")

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Read ``INPUT``, ``MODEL.{MASK,KEYPOINT}_ON``, ``MODEL.LOAD_PROPOSALS`` and ``DATASETS``."""
        augmentations = utils.build_augmentation(cfg, is_train)
        crop = cfg.INPUT.CROP.ENABLED and is_train
        if crop:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        arguments: dict[str, Any] = {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "use_keypoint": cfg.MODEL.KEYPOINT_ON,
            "recompute_boxes": bool(crop and cfg.MODEL.MASK_ON),
        }
        if cfg.MODEL.KEYPOINT_ON:
            arguments["keypoint_hflip_indices"] = utils.create_keypoint_hflip_indices(cfg.DATASETS.TRAIN)
        if cfg.MODEL.LOAD_PROPOSALS:
            phase = "TRAIN" if is_train else "TEST"
            arguments["precomputed_proposal_topk"] = cfg.DATASETS[f"PRECOMPUTED_PROPOSAL_TOPK_{phase}"]
        return arguments

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.Transform, image_shape: tuple[int, int]
    ) -> None:
        """Replace ``annotations`` by ``instances``, without crowd regions and objects that a crop removed."""
        unused = [
            key
            for key, use in (("segmentation", self.use_instance_mask), ("keypoints", self.use_keypoint))
            if not use
        ]
        annos = [a for a in dataset_dict.pop("annotations") if not a.get("iscrowd", 0)]
        for annotation in annos:
            for key in unused:
                annotation.pop(key, None)
        check_annotations(annos, dataset_dict.get("file_name", dataset_dict.get("image_id", "a record")))
        annos = transform_annotations(
            annos, transforms, image_shape, keypoint_hflip_indices=self.keypoint_hflip_indices
        )
        if annos and BoxMode(annos[0]["bbox_mode"]) == BoxMode.XYWHA_ABS:
            instances = utils.annotations_to_instances_rotated(annos, image_shape)
        else:
            instances = utils.annotations_to_instances(
                annos, image_shape, mask_format=self.instance_mask_format
            )
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)

    def _boxes_to_see(self, dataset_dict: dict[str, Any]) -> np.ndarray | None:
        """Return the boxes of the objects for augmentations that use them, such as MinIoURandomCrop."""
        annotations = dataset_dict.get("annotations")
        if not (self._show_boxes and self.is_train and annotations):
            return None
        return boxes_as_xyxy([a for a in annotations if not a.get("iscrowd", 0)])

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one record.

        Args:
            dataset_dict: record of one image, in Detectron2's format; its ``image_bytes``, if present, are decoded
                instead of the file.

        Returns:
            The model input.
        """
        record: dict[str, Any] = _copy_record(dataset_dict)
        streamed = record.pop("image_bytes", None)
        if streamed is None and "file_name" not in record:
            raise WrongRecordError(f"a record has no file_name; it has {str(record)[:200]}")
        source = record["file_name"] if streamed is None else io.BytesIO(streamed)
        image = utils.read_image(source, format=self.image_format)
        utils.check_image_size(record, image)
        labels = record.pop("sem_seg_file_name", None)
        return self.map_loaded(record, image, None if labels is None else utils.read_label_map(labels))

    def map_loaded(
        self, record: dict[str, Any], image: np.ndarray, sem_seg: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Map a record whose image is already in memory.

        Args:
            record: changed in place.
            image: array (H, W, C) in the order of ``image_format``.
            sem_seg: integer label map (H, W), or None.

        Returns:
            The same dict, as the model input.
        """
        inputs = T.AugInput(image, boxes=self._boxes_to_see(record), sem_seg=sem_seg)
        transforms = self.augmentations(inputs)
        shape = inputs.image.shape[:2]  # (height, width)
        record["image"] = to_chw_tensor(inputs.image)
        if inputs.sem_seg is not None:
            record["sem_seg"] = torch.from_numpy(np.ascontiguousarray(inputs.sem_seg).astype(np.int64))
        if self.proposal_topk is not None:
            utils.transform_proposals(record, shape, transforms, proposal_topk=self.proposal_topk)
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            self._transform_annotations(record, transforms, shape)
        return record
