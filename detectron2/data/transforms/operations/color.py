"""Transforms that change colours but not geometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from detectron2.utils.errors import BadType, BadValue

from .base import NoOpTransform, Transform
from .resample import pillow_planes

__all__ = ["BlendTransform", "ColorTransform", "PILColorTransform"]


class ColorTransform(Transform):
    """Apply any function to the image; points, boxes and masks stay where they are.

    Args:
        op: takes and returns an image array of the same height and width.
    """

    def __init__(self, op: Callable[[Any], Any]) -> None:
        if not callable(op):
            raise BadValue(f"op must be callable, got {type(op).__name__}: {op!r}")
        self.op = op

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        """Return a no-op: geometry did not change, and colours cannot be restored in general."""
        return NoOpTransform()

    def __getattr__(self, name: str) -> Any:
        # Reached for data types that other transforms registered, which colours do not affect.
        if name.removeprefix("apply_") in self.data_types and name.startswith("apply_"):
            return lambda data: data
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


class PILColorTransform(ColorTransform):
    """Apply a function of Pillow images to the image.

    Args:
        op: takes and returns a ``PIL.Image.Image`` of the same size.
    """

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        if img.dtype != np.uint8:
            raise BadType(f"PILColorTransform needs a uint8 image, got {img.dtype}")

        def same_mode(im: Image.Image) -> Image.Image:
            return self.op(im).convert(im.mode)

        return pillow_planes(img, same_mode)


class BlendTransform(Transform):
    """Mix the image with another: ``src_weight * src_image + dst_weight * image``.

    Args:
        src_image: array that broadcasts against the image, or a number.
        src_weight: weight of ``src_image``.
        dst_weight: weight of the image that the transform is applied to.

    For uint8 images the result is computed in float32, clipped to [0, 255] and truncated.
    """

    def __init__(self, src_image: np.ndarray | float, src_weight: float, dst_weight: float) -> None:
        self.src_image, self.src_weight, self.dst_weight = src_image, src_weight, dst_weight

    def apply_image(self, img: np.ndarray, interp: object = None) -> np.ndarray:
        """Mix an image; ``interp`` is ignored."""
        if img.dtype != np.uint8:
            return self.src_weight * self.src_image + self.dst_weight * img
        if np.ndim(self.src_image) == 0:  # a table of 256 levels is faster than computing each value
            levels = np.arange(256, dtype=np.float32)
            return self._mix(levels)[img]
        return self._mix(img.astype(np.float32))

    apply_coords = ColorTransform.apply_coords
    apply_segmentation = ColorTransform.apply_segmentation
    inverse = ColorTransform.inverse
    __getattr__ = ColorTransform.__getattr__

    def _mix(self, values: np.ndarray) -> np.ndarray:
        mixed = self.src_weight * self.src_image + self.dst_weight * values
        return np.clip(mixed, 0, 255).astype(np.uint8)
