"""Transforms that resample: scale, grid sample, resize, extent, rotation."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from detectron2.utils.errors import BadValue

from . import warp as _warp
from .base import Transform, as_coords
from .resample import from_numpy, pillow_planes, resize_array

__all__ = ["ExtentTransform", "GridSampleTransform", "ResizeTransform", "RotationTransform", "ScaleTransform"]


def _check_size(img: np.ndarray, height: int, width: int, name: str, batches: bool = False) -> None:
    whole = img.shape[1:3] if batches and img.ndim == 4 else img.shape[:2] if img.ndim in (2, 3) else None
    if whole != (height, width):
        raise BadValue(
            f"{name} was made for an image of height {height} and width {width}, got an array of shape {img.shape}"
        )


class ResizeTransform(Transform):
    """Resize the whole image.

    Args:
        h: height of the image.
        w: width of the image.
        new_h: height of the result.
        new_w: width of the result.
        interp: a filter of ``PIL.Image.Resampling``, bilinear by default, or ``"fast"``
            (see :data:`~detectron2.data.transforms.operations.resample.FAST`).
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | str | None = None) -> None:
        if interp is None:
            interp = Image.Resampling.BILINEAR
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | str | None = None) -> np.ndarray:
        """Resize an image (h, w) or (h, w, C); ``interp`` replaces the filter of this transform."""
        _check_size(img, self.h, self.w, "ResizeTransform")
        return resize_array(img, self.new_h, self.new_w, self.interp if interp is None else interp)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = as_coords(coords)
        points[:, 0] *= self.new_w / self.w
        points[:, 1] *= self.new_h / self.h
        return points

    def inverse(self) -> Transform:
        return type(self)(self.new_h, self.new_w, self.h, self.w, self.interp)

    h: int
    w: int
    new_h: int
    new_w: int
    interp: int | str


class ScaleTransform(Transform):
    """Resize with torch, in floating point.

    Args:
        h: height of the image.
        w: width of the image.
        new_h: height of the result.
        new_w: width of the result.
        interp: mode of ``torch.nn.functional.interpolate`` for images; bilinear by default.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: str | None = None) -> None:
        interp = "bilinear" if interp is None else interp
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        """Resize an image (h, w) or (h, w, C), or a batch (N, h, w, C)."""
        _check_size(img, self.h, self.w, "ScaleTransform", batches=True)
        mode = self.interp if interp is None else interp
        batch, kind = _to_batch(img)
        corners = False if mode in ("bilinear", "bicubic") else None
        out = F.interpolate(batch, (self.new_h, self.new_w), mode=mode, align_corners=corners)
        return _from_batch(out, img.ndim, kind)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp="nearest")

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = as_coords(coords)
        points[:, 0] *= self.new_w / self.w
        points[:, 1] *= self.new_h / self.h
        return points

    def inverse(self) -> Transform:
        return ScaleTransform(self.new_h, self.new_w, self.h, self.w, self.interp)

    h: int
    w: int
    new_h: int
    new_w: int
    interp: str


class GridSampleTransform(Transform):
    """Sample the image at given positions; positions outside it take the nearest border pixel.

    Args:
        grid: array (1, H_out, W_out, 2) of (x, y) in [-1, 1], for ``torch.nn.functional.grid_sample`` with
            ``align_corners=False``.
        interp: mode of ``grid_sample`` for images.
    """

    def __init__(self, grid: np.ndarray, interp: str) -> None:
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        """Sample an image (H, W) or (H, W, C), or a batch (N, H, W, C)."""
        batch, kind = _to_batch(img)
        grid = from_numpy(np.asarray(self.grid)).to(batch.dtype)
        grid = grid.expand(len(batch), *grid.shape[1:])
        mode = self.interp if interp is None else interp
        out = F.grid_sample(batch, grid, mode=mode, padding_mode="border", align_corners=False)
        return _from_batch(out, img.ndim, kind)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp="nearest")

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        raise NotImplementedError(
            "GridSampleTransform knows where each new pixel comes from, not where a point of the image goes; "
            "subclass it and define apply_coords if you know the inverse of the grid"
        )

    grid: np.ndarray
    interp: str


def _to_batch(img: np.ndarray) -> tuple[torch.Tensor, np.dtype]:
    planes = from_numpy(img[:, :, None] if img.ndim == 2 else img)
    if not planes.is_floating_point() or planes.dtype == torch.float16:
        planes = planes.to(torch.float64 if planes.element_size() > 2 else torch.float32)
    return planes.view(-1, *planes.shape[-3:]).permute(0, 3, 1, 2), img.dtype


def _from_batch(batch: torch.Tensor, ndim: int, kind: np.dtype) -> np.ndarray:
    img = batch.permute(0, 2, 3, 1).numpy()
    if np.issubdtype(kind, np.integer):
        info = np.iinfo(kind)
        img = np.clip(np.rint(img), info.min, info.max)
    img = img.astype(kind, copy=False)
    return img if ndim == 4 else img[0] if ndim == 3 else img[0, :, :, 0]


class ExtentTransform(Transform):
    """Crop a rectangle, with any real coordinates inside or outside the image, and resize it.

    Args:
        src_rect: (x0, y0, x1, y1) in the image.
        output_size: (height, width) of the result.
        interp: a filter of ``PIL.Image.Resampling`` that Pillow's ``transform`` supports.
        fill: ignored; kept for Detectron2's signature. Pixels outside the image are 0, as in Detectron2.

    Label maps use the filter ``label_interp``. By default that is the filter of images, as in Detectron2, which mixes
    class numbers at their borders; :class:`RandomExtent` sets it to the nearest pixel.
    """

    label_interp: int | None = None

    def __init__(
        self,
        src_rect: tuple[float, float, float, float],
        output_size: tuple[int, int],
        interp: int = Image.Resampling.BILINEAR,
        fill: int = 0,
    ) -> None:
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Crop and resize an image (H, W) or (H, W, C); dtypes other than uint8 are computed in float32."""
        height, width = self.output_size
        resample = Image.Resampling(int(self.interp if interp is None else interp))
        rect = tuple(float(v) for v in self.src_rect)

        def cut(im: Image.Image) -> Image.Image:
            return im.transform((width, height), Image.Transform.EXTENT, rect, resample)

        if img.dtype == np.uint8:
            return pillow_planes(img, cut)
        planes = img[:, :, None] if img.ndim == 2 else img
        floats = np.moveaxis(planes, 2, 0).astype(np.float32)
        out = np.stack([np.asarray(cut(Image.fromarray(np.ascontiguousarray(p)))) for p in floats], axis=2)
        if not np.issubdtype(img.dtype, np.floating):
            out = np.rint(out)
        return (out if img.ndim == 3 else out[:, :, 0]).astype(img.dtype)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=self.label_interp)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = self.src_rect
        height, width = self.output_size
        points = as_coords(coords).astype(np.float32)  # as in Detectron2
        points -= (x0, y0)
        points *= (width / (x1 - x0), height / (y1 - y0))
        return points

    src_rect: tuple[float, float, float, float]
    output_size: tuple[int, int]
    interp: int
    fill: int


class RotationTransform(Transform):
    """Rotate the image counter-clockwise around a point.

    Args:
        h: height of the image.
        w: width of the image.
        angle: in degrees.
        expand: enlarge the canvas so that the whole rotated image fits, centred (``center`` is then ignored);
            otherwise the size stays and corners are lost.
        center: (x, y) of the fixed point; the centre of the image by default.
        interp: OpenCV's interpolation flag, 1 (bilinear) by default.
    """

    def __init__(
        self,
        h: int,
        w: int,
        angle: float,
        expand: bool = True,
        center: tuple[float, float] | None = None,
        interp: int | None = None,
    ) -> None:
        middle = np.asarray([w / 2, h / 2])
        self.h, self.w, self.angle, self.expand = h, w, angle, expand
        self.center = middle if center is None else center
        self.interp = _warp.LINEAR if interp is None else interp
        self.image_center = middle
        turn = math.radians(angle)
        self.abs_cos, self.abs_sin = abs(math.cos(turn)), abs(math.sin(turn))
        self.bound_w, self.bound_h = w, h
        if expand:
            self.bound_w = int(np.rint(h * self.abs_sin + w * self.abs_cos))
            self.bound_h = int(np.rint(h * self.abs_cos + w * self.abs_sin))
        self._set_matrices()

    def _set_matrices(self) -> None:
        self.rm_coords = self.create_rotation_matrix()
        # Pixel i covers [i, i + 1), so that its index is half a pixel before its centre.
        self.rm_image = self.create_rotation_matrix(offset=-0.5)

    def _is_identity(self) -> bool:
        return self.angle % 360 == 0 and (self.bound_h, self.bound_w) == (self.h, self.w)

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """Return the affine map as an array (2, 3).

        Args:
            offset: of its input and output coordinates: 0 for points, -0.5 for pixel indices.
        """
        turn = math.radians(self.angle)
        linear = np.asarray([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        if self.expand:
            fixed, target = self.image_center, np.asarray([self.bound_w / 2, self.bound_h / 2])
        else:
            fixed = target = np.asarray(self.center, dtype=np.float64)
        return np.column_stack([linear, target + offset - linear @ (fixed + offset)])

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Rotate an image (h, w) or (h, w, C); new corners are 0."""
        if img.size == 0 or self._is_identity():
            return img
        _check_size(img, self.h, self.w, "RotationTransform")
        flag = self.interp if interp is None else interp
        return _warp.warp_affine(img, self.rm_image, self.bound_h, self.bound_w, flag)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=_warp.NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = as_coords(coords).astype(np.float64, copy=False)
        if len(points) == 0 or self._is_identity():
            return points
        return points @ self.rm_coords[:, :2].T + self.rm_coords[:, 2]

    def inverse(self) -> Transform:
        """Return the rotation back, with the canvas cropped to its original size."""
        if not self.expand:
            raise NotImplementedError("a rotation without expand loses the corners: it has no inverse")
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, True, None, self.interp)
        back.bound_h, back.bound_w = self.h, self.w
        back._set_matrices()
        return back
