"""An image with its labels in memory, and functions that transform both together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectron2.structures.rle import to_mask

from ..annotations import boxes_as_xyxy, transform_annotations
from .operations.base import Transform
from .transform import CropTransform, PadTransform, ResizeTransform

__all__ = [
    "IGNORED_LABEL",
    "Sample",
    "fit_sample",
    "mask_of",
    "pad_sample",
    "transform_sample",
    "visible_part",
]

IGNORED_LABEL = 255
"""Value of unlabelled pixels in label maps."""


@dataclass
class Sample:
    """An image and its labels.

    Attributes:
        image: array (H, W, C).
        annotations: in Detectron2's format; boxes absolute XYXY, ``segmentation`` polygons or arrays (H, W),
            ``keypoints`` arrays (N, 3).
        sem_seg: integer label map (H, W), or None.
        record: all other keys of the image's record.
    """

    image: np.ndarray
    annotations: list[dict[str, Any]] = field(default_factory=list)
    sem_seg: np.ndarray | None = None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.image.shape[0], self.image.shape[1]


def transform_sample(sample: Sample, transforms: Transform) -> Sample:
    """Apply transforms, which must not mirror, to the image and all labels, and return a new sample."""
    image = transforms.apply_image(sample.image)
    annotations = [dict(a) for a in sample.annotations]
    transform_annotations(annotations, transforms, image.shape[:2])
    sem_seg = None if sample.sem_seg is None else transforms.apply_segmentation(sample.sem_seg)
    return Sample(image, annotations, sem_seg, sample.record)


def visible_part(
    before: list[dict[str, Any]], after: list[dict[str, Any]], least: float
) -> list[dict[str, Any]]:
    """Return the annotations whose box kept at least the share ``least`` of its area in a crop."""
    whole, left = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes_as_xyxy(before), boxes_as_xyxy(after)))
    stays = (left > 0) & (left >= least * whole)
    return [a for a, stay in zip(after, stays) if stay and not _is_empty(a.get("segmentation"))]


def _is_empty(mask: np.ndarray | Sequence | None) -> bool:
    """Return whether there is a mask, and it is empty."""
    return not mask.any() if isinstance(mask, np.ndarray) else mask is not None and len(mask) == 0


def fit_sample(sample: Sample, scale: float, crop: tuple[int, int, int, int], least: float) -> Sample:
    """Resize a sample by one factor and crop a rectangle.

    Args:
        sample: image and labels.
        scale: factor for both sides.
        crop: (x0, y0, width, height) inside the resized image.
        least: share of a box that must remain for its annotation to be kept.
    """
    height, width = sample.size
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    resized = transform_sample(sample, ResizeTransform(height, width, new_h, new_w))
    x0, y0, crop_w, crop_h = crop
    cut = transform_sample(resized, CropTransform(x0, y0, crop_w, crop_h, new_w, new_h))
    cut.annotations = visible_part(resized.annotations, cut.annotations, least)
    return cut


def pad_sample(sample: Sample, left: int, top: int, size: tuple[int, int], fill: float) -> Sample:
    """Place a sample on a canvas of ``size`` = (height, width), with its corner at (left, top)."""
    height, width = sample.size
    right, bottom = size[1] - left - width, size[0] - top - height
    pad = PadTransform(left, top, right, bottom, width, height, fill, IGNORED_LABEL)
    return transform_sample(sample, pad)


def mask_of(annotation: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Return the mask of one object as a bool array (H, W), or its box if it has no mask."""
    height, width = size
    if "segmentation" in annotation:
        return to_mask(annotation["segmentation"], *size)
    x0, y0, x1, y1 = np.clip(annotation["bbox"], 0, [width, height, width, height])
    mask = np.zeros(size, dtype=bool)
    mask[int(np.floor(y0)) : int(np.ceil(y1)), int(np.floor(x0)) : int(np.ceil(x1))] = True
    return mask
