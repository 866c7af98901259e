"""Peaks of enlarged heatmaps with fixed counts, for graphs: sizes of regions are values there.

The enlarged map is not made. Between four neighbouring samples of a heatmap the enlargement is one bicubic patch; only
the patches whose samples are highest are evaluated, at the places where the enlarged map has pixels.

R regions, K keypoints, S x S samples, C = 16 patches, M = 24 pixels of a patch in each direction.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["find_peaks"]

_PATCHES = 16
_PIXELS = 24  # with 56 samples all pixels of regions of up to 1344; of larger ones every other, and so on
_A = -0.75  # the cubic that torch and OpenCV use


class _Axis(NamedTuple):
    """Pixels of the patches along one axis, [R, S + 1, M] each.

    Attributes:
        pixel: number of the pixel in the enlarged map.
        offset: distance from the patch's first sample, in samples.
        there: the pixel exists and lies in the patch.
    """

    pixel: Tensor
    offset: Tensor
    there: Tensor


def find_peaks(maps: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find column, row and value of the maximum of each enlarged heatmap.

    Args:
        maps: [R, K, S, S].
        pixels: width and height of the enlarged maps, whole numbers [R, 2].

    Returns:
        [R, K] each.
    """
    side = maps.shape[-1]
    columns, rows = (_axis(pixels[:, i], side) for i in (0, 1))
    cell_y, cell_x = _best_patches(maps, rows, columns)
    across, down = _pick(columns, cell_x), _pick(rows, cell_y)
    samples = _samples(maps, cell_y, cell_x)  # [R, K, C, 4, 4]
    values = _weights(down.offset) @ samples @ _weights(across.offset).transpose(-1, -2)  # [R, K, C, M, M]
    there = down.there[..., :, None] & across.there[..., None, :]
    best, at = torch.where(there, values, -3.0e38).flatten(2).max(-1)
    patch = torch.div(at, _PIXELS * _PIXELS, rounding_mode="floor")
    inside = at - patch * (_PIXELS * _PIXELS)
    row = torch.div(inside, _PIXELS, rounding_mode="floor")
    x = across.pixel.flatten(2).gather(2, (patch * _PIXELS + inside - row * _PIXELS)[..., None])
    y = down.pixel.flatten(2).gather(2, (patch * _PIXELS + row)[..., None])
    return x[..., 0], y[..., 0], best


def _axis(pixels: Tensor, side: int) -> _Axis:
    """Find the pixels of each patch; patch c lies between the samples c - 1 and c."""
    scale = (side / pixels)[:, None]  # samples of one pixel
    start = torch.arange(-1, side + 1, dtype=pixels.dtype, device=pixels.device)
    first = ((start + 0.5) / scale - 0.5).ceil().clamp(min=0)  # [R, S + 2]
    step = (1 / (scale * _PIXELS)).ceil().clamp(min=1)[..., None]
    number = torch.arange(_PIXELS, dtype=pixels.dtype, device=pixels.device)
    pixel = first[:, :-1, None] + number * step
    there = (pixel < pixels[:, None, None]) & (pixel < first[:, 1:, None])
    offset = (pixel + 0.5) * scale[..., None] - 0.5 - start[:-1, None]
    return _Axis(pixel, offset.clamp(0, 1), there)


def _best_patches(maps: Tensor, rows: _Axis, columns: _Axis) -> tuple[Tensor, Tensor]:
    """Return rows and columns [R, K, C] of the patches that are highest at two of their pixels in each direction."""
    keypoints, count = maps.shape[1], maps.shape[-1] + 1
    tried = maps
    for axis in (columns, rows):  # each product swaps height and width
        weights = _at_first_and_middle(axis)
        tried = (tried.flatten(1, 2) @ weights.transpose(1, 2)).unflatten(1, (keypoints, -1)).transpose(2, 3)
    tried = torch.maximum(tried[:, :, :count], tried[:, :, count:])
    tried = torch.maximum(tried[..., :count], tried[..., count:])  # [R, K, S + 1, S + 1]
    there = rows.there.any(-1)[:, None, :, None] & columns.there.any(-1)[:, None, None]
    flat = torch.where(there, tried, -3.0e38).flatten(2)
    best = flat.topk(min(_PATCHES, flat.shape[-1]), dim=-1).indices
    row = torch.div(best, count, rounding_mode="floor")
    return row, best - row * count


def _at_first_and_middle(axis: _Axis) -> Tensor:
    """Return the weights [R, 2 (S + 1), S] of all samples for the first and then the middle pixel of each patch."""
    half = torch.div(axis.there.sum(-1, keepdim=True), 2, rounding_mode="floor")
    offset = torch.cat((axis.offset[..., 0], axis.offset.gather(-1, half)[..., 0]), -1)
    weights = _weights(offset)
    side = axis.offset.shape[1] - 1
    sample = torch.arange(side, device=offset.device)
    near = torch.arange(-2, side + 2, device=offset.device).clamp(0, side - 1)  # the border repeats
    taps = [(near[i : i + side + 1, None] == sample).to(offset.dtype).repeat(2, 1) for i in range(4)]
    return (
        weights[..., :1] * taps[0]
        + weights[..., 1:2] * taps[1]
        + weights[..., 2:3] * taps[2]
        + weights[..., 3:] * taps[3]
    )


def _pick(axis: _Axis, patches: Tensor) -> _Axis:
    """Return the pixels of the chosen patches, [R, K, C, M] each."""
    regions, keypoints, count = patches.shape
    index = patches.reshape(regions, keypoints * count, 1).expand(-1, -1, _PIXELS)
    shape = (regions, keypoints, count, _PIXELS)
    return _Axis(*(part.gather(1, index).reshape(shape) for part in axis))


def _samples(maps: Tensor, cell_y: Tensor, cell_x: Tensor) -> Tensor:
    """Return the 4 x 4 samples around each patch; the border repeats."""
    side = maps.shape[-1]
    taps = torch.arange(-2, 2, device=maps.device)
    rows = (cell_y[..., None] + taps).clamp(0, side - 1)  # [R, K, C, 4]
    columns = (cell_x[..., None] + taps).clamp(0, side - 1)
    index = rows[..., :, None] * side + columns[..., None, :]
    return maps.flatten(2).gather(2, index.flatten(2)).reshape(index.shape)


def _weights(offset: Tensor) -> Tensor:
    """Compute the cubic convolution weights of four samples, [..., 4], for places between the middle two."""
    t = torch.stack((offset + 1, offset, 1 - offset, 2 - offset), -1)
    near = ((_A + 2) * t - (_A + 3)) * t * t + 1
    far = ((_A * t - 5 * _A) * t + 8 * _A) * t - 4 * _A
    return torch.where(t <= 1, near, far)
