"""Gradient of ROIAlign on the CPU as one sparse product.

Each pooled value is a weighted sum of feature-map pixels, whose weights are products of a row factor and a column
factor. torchvision's own gradient iterates over samples and channels; a sparse matrix that spreads whole rows of
channels is several times as fast (``benchmarks/ops.py``).
"""

# Legend: R regions, P bins and S samples per bin along an axis, K pixels that a bin touches along an axis.

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._torchvision import roi_align as _tv_roi_align

__all__ = ["roi_align_with_sparse_gradient"]

_MAX_WEIGHTS = 4_000_000  # of one sparse matrix; bounds memory to about 100 MB


def _bin_weights(
    start: Tensor, extent: Tensor, bins: int, sampling_ratio: int, length: int
) -> tuple[Tensor, Tensor]:
    """Compute, along one axis, the first pixel [R, P] that each bin touches and the weights [R, P, K] of K pixels.

    Args:
        start, extent: [R] start and size of each region, in pixels of the feature map.
        bins: P.
        sampling_ratio: samples per bin; 0 or less: as many as it has pixels, rounded up.
        length: pixels of the feature map along this axis.
    """
    size = extent / bins
    counts = size.ceil().clamp(min=0) if sampling_ratio <= 0 else torch.full_like(size, sampling_ratio)
    steps = torch.arange(max(int(counts.max()), 1), device=start.device)
    offset = (steps + 0.5) / counts.clamp(min=1)[:, None]  # [R, S] in bins
    which = torch.arange(bins, device=start.device)
    place = start[:, None, None] + (which[:, None] + offset[:, None]) * size[:, None, None]  # [R, P, S]
    used = (steps < counts[:, None])[:, None] & (place >= -1) & (place <= length)
    place = place.clamp(0, length - 1)
    low = place.floor()
    upper = place - low
    weight = used / counts.clamp(min=1)[:, None, None]

    low = low.long()
    last = length - 1
    first = torch.where(used, low, last).amin(2)
    touched = int((torch.where(used, low, 0).amax(2) - first).clamp(min=0).max()) + 2
    slot = (low - first[:, :, None]).clamp(0, touched - 2)
    weights = place.new_zeros(*first.shape, touched)
    weights.scatter_add_(2, slot, weight * (1 - upper)).scatter_add_(2, slot + 1, weight * upper)
    return first, weights


def _spread(
    grad: Tensor, rois: Tensor, shape: tuple[int, ...], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Compute the gradient of the pixels [N * H * W, C] from that of the pooled values, ``grad`` [R, C, P, P']."""
    images, channels, height, width = shape
    shift = 0.5 if aligned else 0.0
    low, high = rois[:, 1:3] * scale - shift, rois[:, 3:5] * scale - shift
    extent = high - low if aligned else (high - low).clamp(min=1)
    bins = grad.shape[2:]
    top, rows = _bin_weights(low[:, 1], extent[:, 1], bins[0], sampling_ratio, height)
    left, columns = _bin_weights(low[:, 0], extent[:, 0], bins[1], sampling_ratio, width)

    y = top[:, :, None] + torch.arange(rows.shape[2], device=grad.device)  # [R, P, K]
    x = left[:, :, None] + torch.arange(columns.shape[2], device=grad.device)
    y = y.clamp(max=height - 1) + rois[:, :1, None].long() * height
    x = x.clamp(max=width - 1)
    pixel = y[:, :, None, :, None] * width + x[:, None, :, None, :]  # [R, P, P', K, K']
    weight = rows[:, :, None, :, None] * columns[:, None, :, None, :]
    pooled = torch.arange(len(rois) * bins[0] * bins[1], device=grad.device)
    pooled = pooled.view(-1, *bins, 1, 1).expand_as(weight)
    real = weight != 0
    matrix = torch.sparse_coo_tensor(
        torch.stack((pixel[real], pooled[real])),
        weight[real],
        (images * height * width, pooled.shape[0] * bins[0] * bins[1]),
        check_invariants=True,
    )
    return torch.sparse.mm(matrix, grad.permute(0, 2, 3, 1).reshape(-1, channels))


class _SparseGradient(torch.autograd.Function):
    @staticmethod
    def forward(input, rois, output_size, scale, sampling_ratio, aligned):  # type: ignore[no-untyped-def]
        return _tv_roi_align(input, rois, output_size, scale, sampling_ratio, aligned)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        input, rois, _, *settings = inputs
        ctx.save_for_backward(rois)
        ctx.shape, ctx.settings = input.shape, settings

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (rois,) = ctx.saved_tensors
        images, channels, height, width = ctx.shape
        rois = rois.where(rois.isfinite().all(1, keepdim=True), 0)  # a diverged model gets empty regions
        length = _block_length(rois, grad.shape[2:], ctx.settings[0])
        if 0 < len(rois) <= length:
            total = _spread(grad, rois, ctx.shape, *ctx.settings)
        else:  # regions of similar size share a block, which pads their bins to the same number of pixels
            total = grad.new_zeros(images * height * width, channels)
            order = (rois[:, 3:5] - rois[:, 1:3]).amax(1).argsort()
            for block in order.split(length) if len(rois) else ():
                total += _spread(grad[block], rois[block], ctx.shape, *ctx.settings)
        result = total.view(images, height, width, channels).permute(0, 3, 1, 2).contiguous()
        return result, None, None, None, None, None


def _block_length(rois: Tensor, bins: torch.Size, scale: float) -> int:
    """Return the number of regions to process at once, given the pixels per bin of the largest."""
    side = (rois[:, 3:5] - rois[:, 1:3]).abs().amax(0) * scale if len(rois) else rois.new_zeros(2)
    weights = float((side[1] + 3 * bins[0]) * (side[0] + 3 * bins[1]))
    return max(int(_MAX_WEIGHTS / weights), 1)


def roi_align_with_sparse_gradient(
    input: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Run ``torchvision.ops.roi_align`` on the CPU with a fast gradient with respect to ``input``.

    Args:
        input: [N, C, H, W], float32 or float64.
        rois: [R, 5] of (image index, x0, y0, x1, y1).
        output_size, scale, sampling_ratio, aligned: see :func:`detectron2.layers.roi_align`.

    Returns:
        [R, C, height, width].
    """
    return _SparseGradient.apply(input, rois, output_size, scale, sampling_ratio, aligned)
