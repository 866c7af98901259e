"""Paste masks by two small matrix products per mask.

A bilinear sample on an axis-aligned grid separates into rows and columns: ``image = Y @ mask @ X^T``. Row i of Y
holds the weights ``max(0, 1 - |s_i - k|)`` of mask row k, where s_i is pixel centre i in mask rows.
"""

import mmap
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectron2.utils.tracing import is_recording

__all__ = ["paste", "paste_soft"]

_CELLS_AT_ONCE = 1 << 26  # 256 MiB of float32
_MASKS_AT_ONCE = 32


def _within(pixels: Tensor, low: Tensor, high: Tensor, size: int) -> Tensor:
    """Return [N, L] bool: whether the pixel is in the box rounded outwards, or next to it."""
    low, high = low[:, None], high[:, None]
    first, last = (low.floor() - 1).clamp(min=0), (high.ceil() + 1).clamp(max=size)
    # Empty, inverted and infinite boxes sample nothing.
    return (pixels >= first) & (pixels < last) & (high > low) & (high - low).isfinite()


def _weights(pixels: Tensor, low: Tensor, high: Tensor, bins: int, size: int) -> Tensor:
    """Compute sampling weights along one side.

    Args:
        pixels: [L] pixel indices.
        low: [N] near side of the boxes.
        high: [N] far side.
        bins: mask pixels along this side.
        size: image pixels along this side.

    Returns:
        [N, L, bins].
    """
    within = _within(pixels, low, high, size)
    low, high = low[:, None], high[:, None]
    at = (pixels + 0.5 - low) / (high - low) * bins - 0.5  # [N, L]
    at = torch.where(within, at, -2.0)
    taps = torch.arange(bins, dtype=at.dtype, device=at.device)
    return (1 - (at[:, :, None] - taps).abs()).clamp(min=0)


def _finish(soft: Tensor, threshold: float) -> Tensor:
    return soft >= threshold if threshold >= 0 else (soft * 255).to(torch.uint8)


def _paste_whole(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    """Paste all masks over the whole image."""
    if threshold == 0:  # every pixel reaches it, except those far from the box, which are not sampled
        x0, y0, x1, y1 = boxes.unbind(1)
        ys, xs = (torch.arange(side, dtype=boxes.dtype, device=boxes.device) for side in (height, width))
        return _within(ys, y0, y1, height)[:, :, None] & _within(xs, x0, x1, width)[:, None]
    return _finish(paste_soft(masks, boxes, height, width), threshold)


def paste_soft(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Paste [N, M, M'] masks and [N, 4] boxes, floating-point, into [N, height, width] of the same type."""
    x0, y0, x1, y1 = boxes.unbind(1)
    ys = torch.arange(height, dtype=boxes.dtype, device=boxes.device)
    xs = torch.arange(width, dtype=boxes.dtype, device=boxes.device)
    rows = _weights(ys, y0, y1, masks.shape[1], height)  # [N, H, M]
    columns = _weights(xs, x0, x1, masks.shape[2], width)  # [N, W, M]
    return rows @ masks @ columns.transpose(1, 2)


def _blank(shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """Allocate one-byte zeros on the CPU without touching pages that are never written.

    For a hundred masks of a large image, clearing memory would take longer than everything else.
    """
    size = prod(shape)
    if size < 1 << 20 or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.zeros(shape, dtype=dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


def _side_weights(
    low: npt.NDArray, high: npt.NDArray, first: npt.NDArray, last: npt.NDArray, taps: npt.NDArray
) -> list[npt.NDArray]:
    """Compute :func:`_weights` for pixels ``first`` to ``last`` of each of N boxes: N arrays [last - first, bins]."""
    counts = last - first
    ends = np.cumsum(counts)
    pixels = np.arange(ends[-1]) + np.repeat(first - ends + counts, counts)
    step = len(taps) / (high - low)
    at = (pixels + 0.5 - np.repeat(low, counts)) * np.repeat(step, counts) - 0.5
    weights = at.astype(taps.dtype)[:, None] - taps
    np.abs(weights, out=weights)
    np.maximum(np.subtract(1, weights, out=weights), 0, out=weights)
    return np.split(weights, ends[:-1])


def _paste_regions(masks: npt.NDArray, boxes: npt.NDArray, out: npt.NDArray, threshold: float) -> None:
    """Paste mask by mask, only within their boxes; NumPy, because it takes less time to call than torch."""
    height, width = out.shape[1:]
    with np.errstate(invalid="ignore"):
        low, high = np.floor(boxes[:, :2]) - 1, np.ceil(boxes[:, 2:]) + 1
        low, high = np.maximum(low, 0), np.minimum(high, (width, height))
        usable = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1) & (low < high).all(1)
    chosen = np.flatnonzero(usable)
    for start in range(0, len(chosen), _MASKS_AT_ONCE):
        some = chosen[start : start + _MASKS_AT_ONCE]
        box, first, last = boxes[some], low[some].astype(np.int64), high[some].astype(np.int64)
        columns, rows = (
            _side_weights(
                box[:, k], box[:, k + 2], first[:, k], last[:, k], np.arange(bins, dtype=masks.dtype)
            )
            for k, bins in ((0, masks.shape[2]), (1, masks.shape[1]))
        )
        for i, y, x, (left, top), (right, bottom) in zip(some, rows, columns, first.tolist(), last.tolist()):
            soft, window = y @ masks[i] @ x.T, out[i, top:bottom, left:right]
            if threshold >= 0:
                np.greater_equal(soft, threshold, out=window)
            else:
                window[:] = soft * 255


def paste(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    """Map [N, M, M'] masks and [N, 4] boxes to [N, height, width], bool or (threshold < 0) uint8."""
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    masks, boxes = masks.to(dtype), boxes.to(dtype)
    with torch.autocast(masks.device.type, enabled=False):
        if is_recording():
            return _paste_whole(masks, boxes, height, width, threshold)
        if len(masks) == 0:
            return torch.zeros(0, height, width, dtype=torch.uint8, device=masks.device)
        if masks.device.type == "cpu":
            out = _blank((len(masks), height, width), torch.bool if threshold > 0 else torch.uint8)
            _paste_regions(masks.detach().numpy(), boxes.detach().double().numpy(), out.numpy(), threshold)
            return out
        step = max(1, _CELLS_AT_ONCE // max(height * width, 1))
        parts = zip(masks.split(step), boxes.split(step))
        return torch.cat([_paste_whole(m, b, height, width, threshold) for m, b in parts])
