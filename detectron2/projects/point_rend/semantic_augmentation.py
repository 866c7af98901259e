"""Training augmentations of semantic PointRend."""

from detectron2.config import CfgNode
from detectron2.data import transforms as T

from .color_augmentation import ColorAugSSDTransform

__all__ = ["build_sem_seg_train_aug"]


def build_sem_seg_train_aug(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """Build the augmentations that ``INPUT`` describes: resize, crop, change colours, flip.

    Use it as ``DatasetMapper(cfg, is_train=True, augmentations=build_sem_seg_train_aug(cfg))``.

    Args:
        cfg: config with the keys of :func:`add_pointrend_config`.
    """
    node = cfg.INPUT
    augmentations: list[T.Augmentation | T.Transform] = [
        T.ResizeShortestEdge(node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, node.MIN_SIZE_TRAIN_SAMPLING)
    ]
    if node.CROP.ENABLED:
        augmentations.append(
            T.RandomCrop_CategoryAreaConstraint(
                node.CROP.TYPE,
                node.CROP.SIZE,
                node.CROP.SINGLE_CATEGORY_MAX_AREA,
                cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            )
        )
    if node.COLOR_AUG_SSD:
        augmentations.append(ColorAugSSDTransform(img_format=node.FORMAT))
    augmentations.append(T.RandomFlip())
    return augmentations
