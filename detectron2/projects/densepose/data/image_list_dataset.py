"""Images from a list of files, without annotations."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from detectron2.data.detection_utils import read_image

__all__ = ["ImageListDataset", "checked_categories", "empty_images"]

logger = logging.getLogger(__name__)

ImageTransform = Callable[[torch.Tensor], torch.Tensor]


def empty_images() -> torch.Tensor:
    """Return an empty batch of images."""
    return torch.empty((0, 3, 1, 1))


def checked_categories(
    categories: str | Sequence[str | None] | None, files: Sequence[str]
) -> Sequence[str | None]:
    """Return the category of each file.

    Args:
        categories: one per file, one for all, or None.
        files: paths.

    Raises:
        ValueError: the numbers differ.
    """
    if categories is None or isinstance(categories, str):
        return [categories] * len(files)
    if len(categories) != len(files):
        raise ValueError(f"category_list must have one entry per file ({len(files)}), got {len(categories)}")
    return categories


class ImageListDataset(Dataset):
    """Images of a list of files.

    An element is a dict of ``images``, a float32 tensor (1, 3, H, W) in BGR order with values in [0, 255], and
    ``categories``, a list of one name (None if unknown). An unreadable file gives no images, (0, 3, 1, 1), and no
    categories.

    Args:
        image_list: paths or URLs.
        category_list: category of each image, or of all; None = unknown.
        transform: applied to each tensor of images.
    """

    def __init__(
        self,
        image_list: Sequence[str],
        category_list: str | Sequence[str | None] | None = None,
        transform: ImageTransform | None = None,
    ) -> None:
        self.image_list = image_list
        self.category_list = checked_categories(category_list, image_list)
        self.transform = transform

    def __getitem__(self, idx: int) -> dict[str, Any]:
        path = self.image_list[idx]
        try:
            image = read_image(path, format="BGR")
        except OSError as reason:
            logger.warning("Skipping the unreadable image %s (%s)", path, reason)
            return {"images": empty_images(), "categories": []}
        images = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float()
        if self.transform is not None:
            images = self.transform(images)
        return {"images": images, "categories": [self.category_list[idx]]}

    def __len__(self) -> int:
        return len(self.image_list)
