"""Affine warps of image arrays."""

from __future__ import annotations

import numpy as np

__all__ = ["LINEAR", "NEAREST", "warp_affine"]

NEAREST = 0
LINEAR = 1  # numbered as in OpenCV, whose flags the public transforms accept


def warp_affine(img: np.ndarray, matrix: np.ndarray, height: int, width: int, interp: int) -> np.ndarray:
    """Move every pixel by an affine map; what lies outside of the source is zero.

    Values are those of OpenCV 5's ``warpAffine`` (bilinear in float32), without OpenCV.

    Args:
        img: array (H, W) or (H, W, C).
        matrix: float array (2, 3) that takes source pixel indices (x, y, 1) to target pixel indices.
        height: rows of the result.
        width: columns of the result.
        interp: 0 for the nearest pixel, 1 for bilinear; other flags of OpenCV need OpenCV.

    Returns:
        An array (height, width) or (height, width, C) of the same dtype.
    """
    if interp not in (NEAREST, LINEAR):
        return _warp_opencv(img, matrix, height, width, interp)
    linear = np.linalg.inv(matrix[:, :2])
    shift = -linear @ matrix[:, 2]
    cols = linear[:, :1] * np.arange(width)  # [xy, width]
    rows = linear[:, 1:] * np.arange(height) + shift[:, None]  # [xy, height]
    # Two pixels of zeros around the source catch all reads outside of it.
    source = np.pad(img, [(2, 2), (2, 2)] + [(0, 0)] * (img.ndim - 2))
    out = np.empty((height, width, *img.shape[2:]), img.dtype)
    band = max(1, 2**16 // max(1, out[:1].size))  # bands of rows keep the working set in the cache
    for top in range(0, height, band):
        at = slice(top, min(top + band, height))
        x = rows[0, at, None] + cols[0]
        y = rows[1, at, None] + cols[1]
        out[at] = _nearest(source, x, y) if interp == NEAREST else _bilinear(source, x, y)
    return out


def _flat_index(source: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Positions in the padded source's list of pixels, for whole pixel indices of the source without padding."""
    height, width = source.shape[:2]
    row = (y + 2).clip(0, height - 2).astype(np.int32)
    return row * np.int32(width) + (x + 2).clip(0, width - 2).astype(np.int32)


def _nearest(source: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    pixels = source.reshape(-1, *source.shape[2:])
    return pixels[_flat_index(source, np.floor(x + 0.5), np.floor(y + 0.5))]


def _bilinear(source: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    width = source.shape[1]
    kind = np.float32 if source.dtype.itemsize <= 2 or source.dtype == np.float32 else np.float64
    pixels = source.reshape(-1, *source.shape[2:])
    left, top = np.floor(x), np.floor(y)
    first = _flat_index(source, left, top)
    extra = (None,) * (source.ndim - 2)
    fx = (x - left).astype(kind)[(..., *extra)]
    fy = (y - top).astype(kind)[(..., *extra)]
    nw, ne = pixels[first].astype(kind), pixels[first + 1].astype(kind)
    sw, se = pixels[first + width].astype(kind), pixels[first + width + 1].astype(kind)
    upper = nw + fx * (ne - nw)
    lower = sw + fx * (se - sw)
    mean = upper + fy * (lower - upper)
    # a weighted mean stays within the range of its terms, so that no clipping is needed
    return mean if np.issubdtype(source.dtype, np.floating) else np.rint(mean)


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
