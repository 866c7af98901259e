"""Transforms that move pixels without resampling them: flips, crop, pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectron2.utils.errors import BadValue

from .base import Transform, as_coords
from .polygons import clip_polygon
from .resample import mirror

__all__ = ["CropTransform", "HFlipTransform", "PadTransform", "VFlipTransform"]


class _Flip(Transform):
    """Mirror along one axis: x for axis 0, y for axis 1."""

    axis: int

    def _size(self) -> int:
        raise NotImplementedError

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Mirror an image (H, W), (H, W, C) or (N, H, W, C); the result is a copy without negative strides."""
        if img.ndim > 3:
            return np.ascontiguousarray(np.flip(img, -2 - self.axis))
        return mirror(img, 1 - self.axis)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = as_coords(coords)
        points[:, self.axis] = self._size() - points[:, self.axis]
        return points

    def inverse(self) -> Transform:
        return self


class HFlipTransform(_Flip):
    """Mirror left and right.

    Args:
        width: of the image, in pixels.
    """

    axis = 0

    def __init__(self, width: int) -> None:
        self.width = width

    def _size(self) -> int:
        return self.width


class VFlipTransform(_Flip):
    """Mirror top and bottom.

    Args:
        height: of the image, in pixels.
    """

    axis = 1

    def __init__(self, height: int) -> None:
        self.height = height

    def _size(self) -> int:
        return self.height


class CropTransform(Transform):
    """Cut a rectangle out of the image.

    Args:
        x0: left edge of the rectangle, in pixels.
        y0: upper edge.
        w: width of the rectangle.
        h: height of the rectangle.
        orig_w: width of the whole image; only the inverse needs it.
        orig_h: height of the whole image; only the inverse needs it.
    """

    def __init__(
        self, x0: int, y0: int, w: int, h: int, orig_w: int | None = None, orig_h: int | None = None
    ) -> None:
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Crop an image (H, W), (H, W, C) or (N, H, W, C); the result is a view."""
        window = (slice(self.y0, self.y0 + self.h), slice(self.x0, self.x0 + self.w))
        return img[window] if img.ndim <= 3 else img[(..., *window, slice(None))]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = as_coords(coords)
        points -= (self.x0, self.y0)
        return points

    def apply_polygons(self, polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Clip polygons to the rectangle; the number of polygons may change."""
        edges = (self.x0, self.y0, self.x0 + self.w, self.y0 + self.h)
        pieces = [piece for polygon in polygons for piece in clip_polygon(as_coords(polygon), *edges)]
        return [self.apply_coords(piece) for piece in pieces]

    def inverse(self) -> Transform:
        """Return the padding to the original size; pixels outside the rectangle are lost."""
        if self.orig_w is None or self.orig_h is None:
            raise BadValue("CropTransform can only be inverted when orig_w and orig_h were given")
        right, bottom = self.orig_w - self.x0 - self.w, self.orig_h - self.y0 - self.h
        return PadTransform(self.x0, self.y0, right, bottom, orig_w=self.w, orig_h=self.h)

    x0: int
    y0: int
    w: int
    h: int
    orig_w: int | None
    orig_h: int | None


class PadTransform(Transform):
    """Pad the image with a constant value.

    Args:
        x0: columns added at the left.
        y0: rows added at the top.
        x1: columns added at the right.
        y1: rows added at the bottom.
        orig_w: width of the image; only the inverse needs it.
        orig_h: height of the image; only the inverse needs it.
        pad_value: padding of images.
        seg_pad_value: padding of label maps.
    """

    def __init__(
        self,
        x0: int,
        y0: int,
        x1: int,
        y1: int,
        orig_w: int | None = None,
        orig_h: int | None = None,
        pad_value: float = 0,
        seg_pad_value: int = 0,
    ) -> None:
        if min(x0, y0, x1, y1) < 0:
            raise BadValue(f"padding must not be negative, got {(x0, y0, x1, y1)}; use CropTransform to cut")
        self._set_attributes(locals())

    def _pad(self, img: np.ndarray, value: float) -> np.ndarray:
        border = [(self.y0, self.y1), (self.x0, self.x1)]
        if img.ndim > 2:  # channels last, batch first
            border = [(0, 0)] * (img.ndim - 3) + border + [(0, 0)]
        return np.pad(img, border, mode="constant", constant_values=value)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self._pad(img, self.pad_value)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self._pad(segmentation, self.seg_pad_value)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = as_coords(coords)
        points += (self.x0, self.y0)
        return points

    def inverse(self) -> Transform:
        if self.orig_w is None or self.orig_h is None:
            raise BadValue("PadTransform can only be inverted when orig_w and orig_h were given")
        whole_w, whole_h = self.orig_w + self.x0 + self.x1, self.orig_h + self.y0 + self.y1
        return CropTransform(self.x0, self.y0, self.orig_w, self.orig_h, orig_w=whole_w, orig_h=whole_h)

    x0: int
    y0: int
    x1: int
    y1: int
    orig_w: int | None
    orig_h: int | None
    pad_value: float
    seg_pad_value: int
