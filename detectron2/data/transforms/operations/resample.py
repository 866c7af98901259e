"""Resize image arrays, and convert between arrays, Pillow images and tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from detectron2.utils.errors import BadType, BadValue

__all__ = ["FAST", "from_numpy", "mirror", "pillow_planes", "resize_array", "to_chw_tensor"]

FAST = "fast"
"""``interp`` of the resize transforms: bilinear by torch's SIMD kernel for uint8 instead of Pillow's.

Antialiased like Pillow's and several times as fast; 0.03 to 0.14 % of the values were measured to differ by one level.
"""

_TORCH_MODES = {
    int(Image.Resampling.NEAREST): "nearest",
    int(Image.Resampling.BILINEAR): "bilinear",
    int(Image.Resampling.BICUBIC): "bicubic",
}


def resize_array(img: np.ndarray, height: int, width: int, interp: int | str) -> np.ndarray:
    """Resize an image or label map.

    Pillow resizes uint8, so that models see exactly the values that they were trained on. torch interpolates
    floating-point images without antialiasing. Other integers (16-bit images, large label maps) take the nearest
    pixel, or are interpolated as float and rounded.

    Args:
        img: array (H, W) or (H, W, C).
        height: rows of the result, at least 1.
        width: columns of the result, at least 1.
        interp: a Pillow resampling filter, or ``"fast"`` (see :data:`FAST`).

    Returns:
        An array (height, width) or (height, width, C) of the same dtype, possibly with channels-first memory.
    """
    if height < 1 or width < 1:
        raise BadValue(f"the new size must be at least 1 x 1, got {height} x {width}")
    if interp == FAST:
        if img.dtype == np.uint8:
            return _resize_torch(img, height, width, "bilinear", antialias=True)
        interp = Image.Resampling.BILINEAR
    elif isinstance(interp, str):
        raise BadValue(f"interp must be a filter of PIL.Image.Resampling or {FAST!r}, got {interp!r}")
    interp = int(interp)
    if img.dtype == np.uint8:
        return pillow_planes(img, lambda im: im.resize((width, height), Image.Resampling(interp)))
    if not np.issubdtype(img.dtype, np.floating):
        if interp == int(Image.Resampling.NEAREST):
            return _resize_nearest(img, height, width)
        if img.dtype == np.bool_:
            raise BadType("a bool mask can only be resized with NEAREST; convert it to uint8 or float first")
        wide = np.float32 if img.dtype.itemsize <= 2 else np.float64
        info = np.iinfo(img.dtype)
        smooth = resize_array(img.astype(wide), height, width, interp)
        return np.clip(np.rint(smooth), info.min, info.max).astype(img.dtype)
    if interp not in _TORCH_MODES:
        names = [Image.Resampling(k).name for k in _TORCH_MODES]
        raise BadValue(
            f"floating-point images can be resized with {names}, got {Image.Resampling(interp).name}"
        )
    return _resize_torch(img, height, width, _TORCH_MODES[interp])


def _resize_nearest(img: np.ndarray, height: int, width: int) -> np.ndarray:
    """Take the source pixel under the centre of each new pixel, as Pillow does."""
    rows = ((np.arange(height) + 0.5) * (img.shape[0] / height)).astype(np.int64)
    cols = ((np.arange(width) + 0.5) * (img.shape[1] / width)).astype(np.int64)
    return img[rows.clip(max=img.shape[0] - 1)[:, None], cols.clip(max=img.shape[1] - 1)]


def _resize_torch(img: np.ndarray, height: int, width: int, mode: str, antialias: bool = False) -> np.ndarray:
    pixels = from_numpy(np.ascontiguousarray(img))
    # view, not [None]: torch uses its fast kernel only if the stride of the batch dimension fits
    batch = pixels.view(1, *img.shape[:2], -1).permute(0, 3, 1, 2)  # [1, C, H, W], channels-last memory
    half = batch.dtype == torch.float16
    if half:  # not every CPU kernel supports half precision
        batch = batch.float()
    corners = None if mode == "nearest" else False
    out = F.interpolate(batch, (height, width), mode=mode, align_corners=corners, antialias=antialias)[0]
    result = (out.half() if half else out).permute(1, 2, 0).numpy()  # [height, width, C]
    return result if img.ndim == 3 else result[:, :, 0]


def from_numpy(array: np.ndarray) -> torch.Tensor:
    """Call ``torch.from_numpy``, on a copy of read-only arrays and of views with negative strides."""
    if not array.flags.writeable or any(step < 0 for step in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


def mirror(img: np.ndarray, axis: int) -> np.ndarray:
    """Mirror an image (H, W) or (H, W, C) along its axis 0 or 1, without negative strides in the result.

    The memory of the result is channels first, as the mapper needs it in the end.
    """
    if img.ndim == 2:
        return np.ascontiguousarray(np.flip(img, axis))
    planes = img.transpose(2, 0, 1)
    if planes.flags.c_contiguous and planes.flags.writeable and img.dtype == np.uint8:
        # torch mirrors rows of single bytes several times as fast as numpy
        return torch.from_numpy(planes).flip(axis + 1).numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(np.flip(planes, axis + 1)).transpose(1, 2, 0)


def pillow_planes(img: np.ndarray, op: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Apply a function of Pillow images to a uint8 array of any number of channels.

    3 and 4 channels are one RGB or RGBA image. (Pillow weights the colours of RGBA by alpha when it resizes, and so
    did Detectron2.) Other numbers are processed plane by plane, so that no channel is interpreted as transparency.
    """
    if img.ndim == 2 or img.shape[2] == 4:
        return np.array(op(Image.fromarray(np.ascontiguousarray(img))))
    if img.shape[2] == 3:
        done = op(Image.fromarray(np.ascontiguousarray(img)))
        planes = [np.frombuffer(band.tobytes(), np.uint8) for band in done.split()]
        shape = (done.height, done.width)
    else:
        results = [op(Image.fromarray(np.ascontiguousarray(img[:, :, c]))) for c in range(img.shape[2])]
        if not results:
            raise BadValue(f"the image has no channels: its shape is {img.shape}")
        planes = [np.asarray(band) for band in results]
        shape = (results[0].height, results[0].width)
    # Channels-first memory under a channels-last view: the mapper converts to CHW in the end at no cost.
    return np.stack([p.reshape(shape) for p in planes]).transpose(1, 2, 0)


def to_chw_tensor(img: np.ndarray) -> torch.Tensor:
    """Convert an image (H, W) or (H, W, C) to a contiguous tensor (C, H, W) that shares no memory with it."""
    if img.ndim == 2:
        img = img[:, :, None]
    if img.dtype.kind == "u" and img.dtype.itemsize > 1:  # torch hardly supports wider unsigned types
        img = img.astype(np.int32 if img.dtype.itemsize == 2 else np.int64)
    chw = img.transpose(2, 0, 1)
    return torch.from_numpy(np.array(chw, order="C") if chw.flags.c_contiguous else np.ascontiguousarray(chw))
