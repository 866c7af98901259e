"""The mapper of detection transformers: half of the images are cropped before they are resized."""

from collections.abc import Sequence

from detectron2.data import DatasetMapper
from detectron2.data import transforms as T

__all__ = ["DetrDatasetMapper"]


class DetrDatasetMapper(DatasetMapper):
    """Reads an image, augments it in one of two ways, and makes tensors of it and its annotations.

    Args:
        augmentation: augmentations.
        augmentation_with_crop: augmentations of half of the images; None for none.
        is_train: in testing, annotations are dropped.
        mask_on: keep masks.
        img_format: order of the channels.
    """

    def __init__(
        self,
        augmentation: Sequence[T.Augmentation | T.Transform],
        augmentation_with_crop: Sequence[T.Augmentation | T.Transform] | None,
        is_train: bool = True,
        mask_on: bool = False,
        img_format: str = "RGB",
    ) -> None:
        super().__init__(
            is_train, augmentations=augmentation, image_format=img_format, use_instance_mask=mask_on
        )
        if augmentation_with_crop is not None:
            either = T.AugmentationList(augmentation_with_crop)
            self.augmentations = T.AugmentationList([T.RandomEither(self.augmentations, either)])
