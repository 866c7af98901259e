"""The mapper of detection transformers, with masks: half of the images may be cropped before they are resized."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DATASET_MAPPER_REGISTRY
from detectron2.data import transforms as T
from detectron2.projects.mask2former import MaskFormerSemanticDatasetMapper
from detectron2.projects.mask2former.data.lsj_mappers import AugmentingMapper

__all__ = ["DetrDatasetMapper"]

_SIDES_BEFORE_CROP = [400, 500, 600]

# The default of ``INPUT.DATASET_MAPPER_NAME``.
DATASET_MAPPER_REGISTRY.register(MaskFormerSemanticDatasetMapper, name="MaskDINO_semantic")


@DATASET_MAPPER_REGISTRY.register(name="coco_instance_detr")
class DetrDatasetMapper(AugmentingMapper):
    """Makes inputs for detection and instance segmentation of records in COCO's format.

    The result has ``image``, uint8 [C, H, W], and in training ``instances`` with ``gt_boxes``, ``gt_classes`` and
    ``gt_masks``, a uint8 tensor [T, H, W].

    Args:
        cfg: config; its ``INPUT`` says how images are resized, and whether half of them are cropped.
        is_train: in testing, images are only resized, and annotations are dropped.
    """

    def __init__(self, cfg: CfgNode, is_train: bool = True) -> None:
        super().__init__(is_train, tfm_gens=[_augmentation(cfg, is_train)], image_format=cfg.INPUT.FORMAT)

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one record, which is not changed."""
        record, transforms = self.read(dataset_dict)
        self.add_instances(record, transforms, boxes_of_masks=False)
        return record


def _augmentation(cfg: CfgNode, is_train: bool) -> T.Augmentation:
    """Mirror and resize, half of the images with a crop between; in testing, resize."""
    node = cfg.INPUT
    if not is_train:
        return T.ResizeShortestEdge(node.MIN_SIZE_TEST, node.MAX_SIZE_TEST, "choice")
    flip = T.RandomFlip()
    resize = T.ResizeShortestEdge(node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, node.MIN_SIZE_TRAIN_SAMPLING)
    plain = T.AugmentationList([flip, resize])
    if not node.CROP.ENABLED:
        return plain
    before = T.ResizeShortestEdge(_SIDES_BEFORE_CROP, sample_style="choice")
    crop = T.RandomCrop(node.CROP.TYPE, node.CROP.SIZE)
    return T.RandomEither(plain, T.AugmentationList([flip, before, crop, resize]))
