"""Rotated region pooling as one weighted sum of pixels per bin.

A bin is the mean of bilinear samples, and a sample is a weighted sum of four pixels. A bin is therefore a "bag" of
(pixel, weight) pairs over the table of all pixels, which ``embedding_bag`` sums without materialising it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from detectron2.utils.errors import BadValue
from detectron2.utils.tracing import refuse_trace

__all__ = ["roi_align_rotated"]

_SAMPLES_AT_ONCE = 1 << 21  # four 8-byte indices and weights each


def _corners(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the lower and upper pixel of a position along one axis, and the weight of the upper one."""
    at = at.clamp(0, size - 1)
    low = at.floor().clamp(max=max(size - 2, 0))
    return low.long(), (low + 1).clamp(max=size - 1).long(), at - low


def _bags(
    rois: Tensor, owner: Tensor, local: Tensor, grid: Tensor, shape: tuple[int, int], bins: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Compute pixels and weights of all samples.

    Args:
        rois: [R, 6] in feature-map pixels, centre of pixel (0, 0) at the origin.
        owner: [S] roi of each sample.
        local: [S] index of each sample within its roi, bin after bin.
        grid: [R, 2] samples per bin, (down, across).
        shape: height and width of the feature map.
        bins: bins (down, across).

    Returns:
        Rows of the pixel table and weights, [S, 4] each.
    """
    image, cx, cy, w, h, angle = rois[owner].unbind(1)
    down, across = grid[owner].unbind(1)
    per_bin = down * across
    cell, sample = local // per_bin, local % per_bin
    # position in the frame of the roi, origin at its centre
    v = ((cell // bins[1]).to(w) + ((sample // across).to(w) + 0.5) / down) * (h / bins[0]) - h / 2
    u = ((cell % bins[1]).to(w) + ((sample % across).to(w) + 0.5) / across) * (w / bins[1]) - w / 2
    turn = torch.deg2rad(angle)
    cos, sin = turn.cos(), turn.sin()
    y, x = cy + v * cos - u * sin, cx + v * sin + u * cos
    height, width = shape
    # Samples more than one pixel outside the map are zero.
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y0, y1, fy = _corners(y, height)
    x0, x1, fx = _corners(x, width)
    base = image.long() * height
    rows = [(base + r) * width + c for r in (y0, y1) for c in (x0, x1)]
    weights = [a * b for a in (1 - fy, fy) for b in (1 - fx, fx)]
    scale = torch.where(inside, 1.0 / per_bin, 0.0).to(w.dtype)
    return torch.stack(rows, 1), torch.stack(weights, 1) * scale[:, None]


def _fixed(rois: Tensor, ratio: int, shape: tuple[int, int], bins: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return bags of equal size, [R * bins, 4 * ratio²] each."""
    per_roi = bins[0] * bins[1] * ratio * ratio
    index = torch.arange(rois.shape[0] * per_roi, device=rois.device)
    grid = torch.full_like(rois[:, :2], ratio, dtype=torch.int64)
    rows, weights = _bags(rois, index // per_roi, index % per_roi, grid, shape, bins)
    # -1 would be ambiguous without rois.
    size = (rois.shape[0] * bins[0] * bins[1], 4 * ratio * ratio)
    return rows.reshape(size), weights.reshape(size)


def _adaptive_grid(rois: Tensor, bins: tuple[int, int]) -> Tensor:
    """Return [R, 2] samples per bin for a spacing of at most one pixel."""
    return torch.stack([rois[:, 4] / bins[0], rois[:, 3] / bins[1]], 1).ceil().clamp(min=0).long()


def _ragged(
    rois: Tensor, grid: Tensor, shape: tuple[int, int], bins: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return bags of different sizes: rows [S * 4], weights [S * 4], start of each bag [R * bins]."""
    per_bin = grid.prod(1)
    per_roi = per_bin * (bins[0] * bins[1])
    owner = torch.arange(len(rois), device=rois.device).repeat_interleave(per_roi)
    first = per_roi.cumsum(0) - per_roi
    local = torch.arange(len(owner), device=rois.device) - first[owner]
    rows, weights = _bags(rois, owner, local, grid, shape, bins)
    bag_sizes = 4 * per_bin.repeat_interleave(bins[0] * bins[1])
    return rows.flatten(), weights.flatten(), bag_sizes.cumsum(0) - bag_sizes


def _chunks(grid: Tensor, bins: tuple[int, int]) -> list[slice]:
    """Split rois into runs with a bounded number of samples."""
    counts = (grid.prod(1) * (bins[0] * bins[1])).tolist()
    cuts, total = [0], 0
    for i, count in enumerate(counts):
        if total and total + count > _SAMPLES_AT_ONCE:
            cuts.append(i)
            total = 0
        total += count
    return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(counts)])]


def _pool_ragged(table: Tensor, rois: Tensor, shape: tuple[int, int], bins: tuple[int, int]) -> Tensor:
    """Sum the weighted pixels of each bag, [R * bins, C]."""
    grid = _adaptive_grid(rois, bins)
    parts = []
    for part in _chunks(grid, bins):
        rows, weights, starts = _ragged(rois[part], grid[part], shape, bins)
        if len(rows) == 0:
            parts.append(table.new_zeros(len(starts), table.shape[1]) + 0 * table[:0].sum())
            continue
        parts.append(F.embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights))
    return torch.cat(parts)


def _spread_ragged(
    grad: Tensor, rois: Tensor, images: int, shape: tuple[int, int], bins: tuple[int, int]
) -> Tensor:
    """Return the transpose of :func:`_pool_ragged`: [R * bins, C] -> [images * H * W, C]."""
    table = grad.new_zeros(images * shape[0] * shape[1], grad.shape[1])
    grid = _adaptive_grid(rois, bins)
    cells = bins[0] * bins[1]
    for part in _chunks(grid, bins):
        rows, weights, starts = _ragged(rois[part], grid[part], shape, bins)
        if len(rows) == 0:
            continue
        count = torch.diff(starts, append=starts.new_tensor([len(rows)]))
        bag = torch.arange(len(starts), device=rows.device).repeat_interleave(count)
        rows, order = rows.sort()
        starts = torch.searchsorted(rows, torch.arange(len(table), device=rows.device))
        own = grad[part.start * cells : part.stop * cells]
        table += F.embedding_bag(bag[order], own, starts, mode="sum", per_sample_weights=weights[order])
    return table


@torch.library.custom_op("detectron2::roi_align_rotated_adaptive", mutates_args=())
def _adaptive_op(table: Tensor, rois: Tensor, height: int, width: int, down: int, across: int) -> Tensor:
    return _pool_ragged(table, rois, (height, width), (down, across))


@_adaptive_op.register_fake
def _(table: Tensor, rois: Tensor, height: int, width: int, down: int, across: int) -> Tensor:
    return table.new_empty((rois.shape[0] * down * across, table.shape[1]))


@torch.library.custom_op("detectron2::roi_align_rotated_adaptive_backward", mutates_args=())
def _adaptive_backward_op(
    grad: Tensor, rois: Tensor, images: int, height: int, width: int, down: int, across: int
) -> Tensor:
    return _spread_ragged(grad.contiguous(), rois, images, (height, width), (down, across))


@_adaptive_backward_op.register_fake
def _(grad: Tensor, rois: Tensor, images: int, height: int, width: int, down: int, across: int) -> Tensor:
    return grad.new_empty((images * height * width, grad.shape[1]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    table, rois, height, width, down, across = inputs
    ctx.save_for_backward(rois)
    ctx.geometry = (table.shape[0] // (height * width), height, width, down, across)


def _adaptive_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (rois,) = ctx.saved_tensors
    return _adaptive_backward_op(grad, rois, *ctx.geometry), None, None, None, None, None


_adaptive_op.register_autograd(_adaptive_backward, setup_context=_keep)


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
) -> Tensor:
    """Average bilinear samples in each bin of rotated regions.

    Args:
        input: [N, C, H, W].
        rois: [R, 6] of (image index, x centre, y centre, width, height, angle in degrees counter-clockwise).
        output_size: number of bins, (height, width) or one number for both.
        spatial_scale: feature-map pixels per unit of ``rois``.
        sampling_ratio: samples per bin and axis; 0 or less: as many as the bin has pixels, rounded up.

    Returns:
        [R, C, height, width] in the dtype of ``input``; differentiable in ``input``.
    """
    if rois.dim() != 2 or rois.shape[1] != 6:
        raise BadValue(f"rois must be [R, 6] of (image index, xc, yc, w, h, angle), got {tuple(rois.shape)}")
    bins = _pair(output_size)
    images, channels, height, width = input.shape
    precise = torch.promote_types(input.dtype, torch.float32)
    with torch.autocast(input.device.type, enabled=False):
        boxes = rois.detach().to(precise)
        # Lengths scale; the centre also moves from pixel corners to pixel centres.
        image, centre, size, angle = boxes.split([1, 2, 2, 1], 1)
        boxes = torch.cat([image, centre * spatial_scale - 0.5, size * spatial_scale, angle], 1)
        table = input.to(precise).permute(0, 2, 3, 1).reshape(images * height * width, channels)
        if sampling_ratio > 0:
            rows, weights = _fixed(boxes, sampling_ratio, (height, width), bins)
            pooled = F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
        elif torch.compiler.is_compiling():  # the number of samples depends on the values
            pooled = _adaptive_op(table, boxes, height, width, *bins)
        else:
            refuse_trace("pooling of rotated boxes")
            pooled = _pool_ragged(table, boxes, (height, width), bins)
    pooled = pooled.reshape(rois.shape[0], *bins, channels)  # [R, h, w, C]
    return pooled.permute(0, 3, 1, 2).to(input.dtype)
