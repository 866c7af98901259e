"""Affine warps of image arrays."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from .resample import from_numpy

__all__ = ["LINEAR", "NEAREST", "warp_affine"]

NEAREST = 0
LINEAR = 1  # numbered as in OpenCV, whose flags the public transforms accept


def warp_affine(img: np.ndarray, matrix: np.ndarray, height: int, width: int, interp: int) -> np.ndarray:
    """Apply an affine map to an image; pixels outside the source are zero.

    The values are those of OpenCV 5's ``warpAffine`` (bilinear in float32), computed without OpenCV.

    Args:
        img: array (H, W) or (H, W, C).
        matrix: float array (2, 3) that maps source pixel indices (x, y, 1) to target pixel indices.
        height: rows of the result.
        width: columns of the result.
        interp: 0 for the nearest pixel, 1 for bilinear; other flags need OpenCV.

    Returns:
        An array (height, width) or (height, width, C) of the same dtype.
    """
    if interp not in (NEAREST, LINEAR):
        return _warp_opencv(img, matrix, height, width, interp)
    linear = np.linalg.inv(matrix[:, :2])
    shift = -linear @ matrix[:, 2]
    cols = linear[:, :1] * np.arange(width)  # [xy, width]
    rows = linear[:, 1:] * np.arange(height) + shift[:, None]  # [xy, height]
    if img.size == 0 or height == 0 or width == 0:
        return np.zeros((height, width, *img.shape[2:]), img.dtype)
    if interp == NEAREST:
        return _nearest(img, rows[0, :, None] + cols[0], rows[1, :, None] + cols[1])
    return _bilinear(img, rows, cols)


def _nearest(img: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gather the pixels nearest to the source indices ``x`` and ``y``, both [height, width]."""
    # Reads outside the source go to a border of zeros.
    source = np.pad(img, [(1, 1), (1, 1)] + [(0, 0)] * (img.ndim - 2))
    top, left = source.shape[0] - 1, source.shape[1] - 1
    at = np.floor(y + 1.5).clip(0, top).astype(np.int32), np.floor(x + 1.5).clip(0, left).astype(np.int32)
    return source[at]


def _bilinear(img: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Interpolate at the source indices rows[:, i] + cols[:, j]."""
    wide = img.dtype.itemsize > 2 and img.dtype != np.float32
    kind = np.float64 if wide else np.float32
    # torch's coordinates are -1 at the left edge of the first pixel and 1 at the right edge of the last
    size = np.asarray([[img.shape[1]], [img.shape[0]]])
    grid = ((2 * rows + 1) / size - 1).T[:, None] + (2 * cols / size).T  # [height, width, xy]
    planes = from_numpy((img if img.ndim == 3 else img[:, :, None]).astype(kind))
    out = F.grid_sample(
        planes.permute(2, 0, 1)[None],
        torch.from_numpy(grid.astype(kind))[None],
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    mean = out[0].permute(1, 2, 0).numpy()
    if not np.issubdtype(img.dtype, np.floating):
        mean = np.rint(mean)  # a weighted mean needs no clipping
    mean = mean.astype(img.dtype)
    return mean if img.ndim == 3 else mean[:, :, 0]


def _warp_opencv(img: np.ndarray, matrix: np.ndarray, height: int, width: int, interp: int) -> np.ndarray:
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            f"rotation with the OpenCV interpolation flag {interp} needs OpenCV: pip install 'detectron2[viz]'; "
            "the flags 0 (nearest) and 1 (bilinear) work without it"
        ) from error
    out = np.asarray(cv2.warpAffine(img, matrix, (width, height), flags=interp))
    return out.reshape(height, width, *img.shape[2:])
