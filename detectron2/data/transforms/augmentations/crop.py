"""Augmentations that crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectron2.utils.errors import BadValue

from ..augmentation import Augmentation
from ..operations.base import NoOpTransform, Transform, TransformList
from ..transform import CropTransform, PadTransform

__all__ = ["FixedSizeCrop", "MinIoURandomCrop", "RandomCrop", "RandomCrop_CategoryAreaConstraint"]

_CROP_TYPES = ("relative_range", "relative", "absolute", "absolute_range")


class FixedSizeCrop(Augmentation):
    """Crop to a fixed size at a random position, and pad smaller images: the second step of large-scale jittering.

    Args:
        crop_size: (height, width).
        pad: pad smaller images at the right and at the bottom.
        pad_value: padding of images.
        seg_pad_value: padding of label maps.
    """

    def __init__(
        self, crop_size: tuple[int, int], pad: bool = True, pad_value: float = 128.0, seg_pad_value: int = 255
    ) -> None:
        self._init(locals())

    def _get_crop(self, image: np.ndarray) -> Transform:
        (height, width), (crop_h, crop_w) = image.shape[:2], self.crop_size
        room = np.maximum([height - crop_h, width - crop_w], 0)
        y0, x0 = np.round(room * np.random.uniform(0.0, 1.0)).astype(int).tolist()
        return CropTransform(x0, y0, min(crop_w, width), min(crop_h, height), width, height)

    def _get_pad(self, image: np.ndarray) -> Transform:
        height, width = (min(side, crop) for side, crop in zip(image.shape[:2], self.crop_size))
        right, bottom = self.crop_size[1] - width, self.crop_size[0] - height
        return PadTransform(0, 0, right, bottom, width, height, self.pad_value, self.seg_pad_value)

    def get_transform(self, image: np.ndarray) -> TransformList:
        transforms = [self._get_crop(image)]
        if self.pad:
            transforms.append(self._get_pad(image))
        return TransformList(transforms)

    crop_size: tuple[int, int]
    pad: bool
    pad_value: float
    seg_pad_value: int


class RandomCrop(Augmentation):
    """Crop a rectangle at a random position, optionally of random size.

    Args:
        crop_type: meaning of ``crop_size``:

            * ``"relative"``: (height, width) in (0, 1], fractions of the image;
            * ``"relative_range"``: the fractions are drawn from [height, 1] and [width, 1];
            * ``"absolute"``: (height, width) in pixels, clipped to the image;
            * ``"absolute_range"``: (min, max) in pixels, for height and width separately.
        crop_size: two numbers.
    """

    def __init__(self, crop_type: str, crop_size: Sequence[float]) -> None:
        if crop_type not in _CROP_TYPES:
            raise BadValue(f"crop_type must be one of {_CROP_TYPES}, got {crop_type!r}")
        if len(crop_size) != 2:
            raise BadValue(f"crop_size must have two numbers, got {crop_size}")
        if crop_type.startswith("relative") and not all(0 < s <= 1 for s in crop_size):
            raise BadValue(f"a relative crop_size must be in (0, 1], got {crop_size}")
        if crop_type == "absolute_range" and crop_size[0] > crop_size[1]:
            raise BadValue(f"crop_size must be (min, max) for 'absolute_range', got {crop_size}")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        crop_h, crop_w = self.get_crop_size((height, width))
        y0 = np.random.randint(height - crop_h + 1)
        x0 = np.random.randint(width - crop_w + 1)
        return CropTransform(x0, y0, crop_w, crop_h, width, height)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of the crop for an image of ``image_size`` = (height, width)."""
        height, width = image_size
        first, second = self.crop_size
        if self.crop_type == "absolute":
            return min(int(first), height), min(int(second), width)
        if self.crop_type == "absolute_range":
            crop_h = np.random.randint(int(min(height, first)), int(min(height, second)) + 1)
            crop_w = np.random.randint(int(min(width, first)), int(min(width, second)) + 1)
            return int(crop_h), int(crop_w)
        if self.crop_type == "relative_range":
            # float32 as in Detectron2, so that a seed gives the same crops
            least = np.asarray(self.crop_size, dtype=np.float32)
            first, second = least + np.random.rand(2) * (1 - least)
        return int(height * first + 0.5), int(width * second + 0.5)

    crop_type: str
    crop_size: Sequence[float]


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """Like :class:`RandomCrop`, but tries up to ten times to find a crop that no single category dominates.

    Args:
        crop_type: as in :class:`RandomCrop`.
        crop_size: as in :class:`RandomCrop`.
        single_category_max_area: maximum share of one category in the labelled area; 1 for no limit.
        ignored_category: label that counts neither as a category nor as area.
    """

    def __init__(
        self,
        crop_type: str,
        crop_size: Sequence[float],
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ) -> None:
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        height, width = sem_seg.shape
        for _ in range(10):
            crop_h, crop_w = self.crop_aug.get_crop_size((height, width))
            y0 = np.random.randint(height - crop_h + 1)
            x0 = np.random.randint(width - crop_w + 1)
            labels, areas = np.unique(sem_seg[y0 : y0 + crop_h, x0 : x0 + crop_w], return_counts=True)
            if self.ignored_category is not None:
                areas = areas[labels != self.ignored_category]
            if len(areas) > 1 and areas.max() < areas.sum() * self.single_category_max_area:
                break
        return CropTransform(x0, y0, crop_w, crop_h, width, height)

    crop_type: str
    crop_size: Sequence[float]
    single_category_max_area: float
    ignored_category: int | None


class MinIoURandomCrop(Augmentation):
    """Crop a random rectangle whose IoU with every box is at least a random threshold (the sampling of SSD).

    Args:
        min_ious: thresholds to draw from; "the whole image" and "any crop" are drawn as often as each of them.
        min_crop_size: minimum side of the crop relative to the image.
        mode_trials: number of thresholds to draw before giving up.
        crop_trials: number of crops to draw for each threshold.

    Reference: Liu et al., SSD: Single Shot MultiBox Detector, section 2.2, https://arxiv.org/abs/1512.02325
    """

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ) -> None:
        self.sample_mode = (1, *min_ious, 0)  # 1: the whole image; 0: any crop
        self._init(locals())

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None) -> Transform:
        if boxes is None:
            return NoOpTransform()
        boxes = np.asarray(boxes).reshape(-1, 4)
        for _ in range(self.mode_trials):
            overlap = self.sample_mode[np.random.randint(len(self.sample_mode))]
            if overlap == 1:
                return NoOpTransform()
            for _ in range(self.crop_trials):
                drawn = self._draw_crop(*image.shape[:2])
                if drawn is not None and _crop_is_good(drawn[0], boxes, overlap):
                    (x0, y0, _, _), (crop_w, crop_h) = drawn
                    return CropTransform(x0, y0, crop_w, crop_h, image.shape[1], image.shape[0])
        return NoOpTransform()

    def _draw_crop(self, height: int, width: int) -> tuple[tuple[int, int, int, int], tuple[int, int]] | None:
        """Draw (x0, y0, x1, y1) and (width, height); None if the sides differ too much.

        All numbers are truncated to whole pixels separately, so that x1 - x0 may exceed the width by one.
        """
        new_w = np.random.uniform(self.min_crop_size * width, width)
        new_h = np.random.uniform(self.min_crop_size * height, height)
        if not 0.5 <= new_h / new_w <= 2:
            return None
        x0, y0 = np.random.uniform(width - new_w), np.random.uniform(height - new_h)
        crop = int(x0), int(y0), int(x0 + new_w), int(y0 + new_h)
        return (crop, (int(new_w), int(new_h))) if crop[2] > crop[0] and crop[3] > crop[1] else None

    min_ious: Sequence[float]
    min_crop_size: float
    mode_trials: int
    crop_trials: int


def _crop_is_good(crop: tuple[int, int, int, int], boxes: np.ndarray, overlap: float) -> bool:
    """Return whether a crop overlaps every box enough and contains the centre of at least one; true without boxes."""
    if len(boxes) == 0:
        return True
    low, high = np.asarray(crop[:2]), np.asarray(crop[2:])
    inner = np.clip(np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low), 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    iou = inner / np.maximum(areas + (high - low).prod() - inner, 1e-9)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    held = ((centers > low) & (centers < high)).all(axis=1)
    return bool(iou.min() >= overlap and held.any())
