"""Pasting as two small matrix products per mask.

A bilinear sample on an axis-aligned grid separates into rows and columns: ``image = Y @ mask @ X^T``. Row i of Y
holds the weights ``max(0, 1 - |s_i - k|)`` of mask row k, where s_i is pixel centre i in mask rows.
"""

import torch
from torch import Tensor

__all__ = ["paste"]

_CELLS_AT_ONCE = 1 << 26  # 256 MiB of float32


def _weights(pixels: Tensor, low: Tensor, high: Tensor, bins: int, size: int) -> Tensor:
    """Sampling weights along one side.

    Args:
        pixels: [L] pixel indices.
        low: [N] near side of the boxes.
        high: [N] far side.
        bins: Mask pixels along this side.
        size: Image pixels along this side.

    Returns:
        [N, L, bins].
    """
    low, high = low[:, None], high[:, None]
    at = (pixels + 0.5 - low) / (high - low) * bins - 0.5  # [N, L]
    first, last = (low.floor() - 1).clamp(min=0), (high.ceil() + 1).clamp(max=size)
    within = (pixels >= first) & (pixels < last)
    # A box without extent divides by zero: it samples nothing.
    at = torch.where(within & at.isfinite(), at, -2.0)
    taps = torch.arange(bins, dtype=at.dtype, device=at.device)
    return (1 - (at[:, :, None] - taps).abs()).clamp(min=0)


def _finish(soft: Tensor, threshold: float) -> Tensor:
    return soft >= threshold if threshold >= 0 else (soft * 255).to(torch.uint8)


def _paste_whole(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    """All masks over the whole image."""
    x0, y0, x1, y1 = boxes.unbind(1)
    ys = torch.arange(height, dtype=boxes.dtype, device=boxes.device)
    xs = torch.arange(width, dtype=boxes.dtype, device=boxes.device)
    rows = _weights(ys, y0, y1, masks.shape[1], height)  # [N, H, M]
    columns = _weights(xs, x0, x1, masks.shape[2], width)  # [N, W, M]
    return _finish(rows @ masks @ columns.transpose(1, 2), threshold)


def _paste_regions(masks: Tensor, boxes: Tensor, out: Tensor, threshold: float) -> None:
    """Mask by mask, only where its box is."""
    height, width = out.shape[1:]
    near, far = boxes[:, :2].floor() - 1, boxes[:, 2:].ceil() + 1
    limits = torch.tensor([width, height], dtype=boxes.dtype)
    region = torch.cat([near.clamp(min=0).minimum(limits), far.clamp(min=0).minimum(limits)], 1)
    ys, xs = (torch.arange(n, dtype=boxes.dtype) for n in (height, width))
    for i, (left, top, right, bottom) in enumerate(region.nan_to_num(0).long().tolist()):
        if left >= right or top >= bottom:
            continue
        x0, y0, x1, y1 = boxes[i : i + 1].unbind(1)
        rows = _weights(ys[top:bottom], y0, y1, masks.shape[1], height)[0]
        columns = _weights(xs[left:right], x0, x1, masks.shape[2], width)[0]
        out[i, top:bottom, left:right] = _finish(rows @ masks[i] @ columns.T, threshold)


def paste(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    """[N, M, M'] masks and [N, 4] boxes -> [N, height, width], bool or (threshold < 0) uint8."""
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    masks, boxes = masks.to(dtype), boxes.to(dtype)
    with torch.autocast(masks.device.type, enabled=False):
        if torch.compiler.is_compiling():
            return _paste_whole(masks, boxes, height, width, threshold)
        kind = torch.bool if threshold >= 0 else torch.uint8
        if threshold == 0:  # every pixel reaches it
            return torch.ones(len(masks), height, width, dtype=kind, device=masks.device)
        out = torch.zeros(len(masks), height, width, dtype=kind, device=masks.device)
        if masks.device.type == "cpu":
            _paste_regions(masks.detach(), boxes.detach(), out, threshold)
            return out
        step = max(1, _CELLS_AT_ONCE // max(height * width, 1))
        for i in range(0, len(masks), step):
            part = slice(i, i + step)
            out[part] = _paste_whole(masks[part], boxes[part], height, width, threshold)
        return out
