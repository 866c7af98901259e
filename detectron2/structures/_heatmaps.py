"""Bicubic enlargement of keypoint heatmaps as two matrix products, many regions at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._heatmap_peaks import find_peaks

__all__ = ["decode_heatmaps", "decode_in_graph"]

_CELLS_AT_ONCE = 1 << 24  # 64 MiB of float32
_A = -0.75  # the cubic that torch and OpenCV use


def _near(d: Tensor) -> Tensor:
    """Evaluate the cubic convolution kernel for |d| <= 1."""
    return ((_A + 2) * d - (_A + 3)) * d * d + 1


def _far(d: Tensor) -> Tensor:
    """Evaluate the cubic convolution kernel for 1 < |d| < 2."""
    return ((_A * d - 5 * _A) * d + 8 * _A) * d - 4 * _A


def _resize_weights(sizes: Tensor, longest: int, bins: int) -> Tensor:
    """Compute bicubic weights from ``bins`` samples to ``sizes[r]`` samples.

    Args:
        sizes: [R] integers, in floating point.
        longest: number of rows to compute, at least the largest size; rows beyond a size are unused.
        bins: samples on the heatmap side.

    Returns:
        [R, longest, bins].
    """
    at = (torch.arange(longest, dtype=sizes.dtype, device=sizes.device) + 0.5) * (bins / sizes[:, None]) - 0.5
    base = at.floor()
    t = at - base
    taps = torch.stack([_far(t + 1), _near(t), _near(1 - t), _far(2 - t)], -1)  # [R, L, 4]
    index = base.long()[..., None] + torch.arange(-1, 3, device=sizes.device)
    weights = sizes.new_zeros(*at.shape, bins)
    return weights.scatter_add_(-1, index.clamp(0, bins - 1), taps)  # the border repeats


def _decode_some(maps: Tensor, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute column, row and value of the maximum of each enlarged map; [R, K] each."""
    h, w = int(height.max()), int(width.max())
    rows = _resize_weights(height, h, maps.shape[2])[:, None]  # [R, 1, h, S]
    columns = _resize_weights(width, w, maps.shape[3])[:, None]
    full = rows @ maps @ columns.transpose(-1, -2)  # [R, K, h, w]
    valid = torch.arange(h, device=maps.device)[:, None] < height[:, None, None]  # [R, h, 1]
    valid = valid & (torch.arange(w, device=maps.device) < width[:, None, None])
    if len(height) > 1:  # a single region has no padding
        full = full.masked_fill(~valid[:, None], -torch.inf)
    best, at = full.flatten(2).max(-1)
    return at % w, at // w, best


def _groups(height: Tensor, width: Tensor, keypoints: int) -> list[Tensor]:
    """Group regions of similar size, to limit padding and memory."""
    sides = torch.stack([height, width], 1).cpu().long()
    order = (sides[:, 0] * sides[:, 1]).argsort(descending=True).tolist()
    groups, group = [], [order[0]]
    h, w = sides[order[0]].tolist()
    for i in order[1:]:
        new_h, new_w = max(h, int(sides[i, 0])), max(w, int(sides[i, 1]))
        useful = int((sides[[*group, i]].prod(1)).sum())
        total = (len(group) + 1) * new_h * new_w
        if total * keypoints > _CELLS_AT_ONCE or total > 1.5 * useful:
            groups.append(group)
            group, h, w = [i], *sides[i].tolist()
        else:
            group.append(i)
            h, w = new_h, new_w
    return [torch.tensor(g, device=height.device) for g in [*groups, group]]


def _decode(maps: Tensor, rois: Tensor) -> Tensor:
    out = maps.new_zeros(*maps.shape[:2], 4, dtype=torch.promote_types(maps.dtype, torch.float32))
    if out.numel() == 0:
        return out
    maps, rois = maps.to(out.dtype), rois.to(out.dtype)
    near = rois[:, :2]
    size = (rois[:, 2:] - near).clamp(min=1)
    pixels = size.ceil()  # [R, 2]
    for group in _groups(pixels[:, 1], pixels[:, 0], maps.shape[1]):
        x, y, best = _decode_some(maps[group], pixels[group, 1], pixels[group, 0])
        xy = torch.stack([x, y], -1) + 0.5  # pixel centres
        xy = xy * (size / pixels)[group, None] + near[group, None]
        score = (best - maps[group].flatten(2).logsumexp(-1)).exp()
        out[group] = torch.cat([xy, best[..., None], score[..., None]], -1)
    return out


def decode_in_graph(maps: Tensor, rois: Tensor) -> Tensor:
    """Decode with operators whose shapes depend on no value, and that every format of exported models knows."""
    maps, rois = maps.float(), rois.float()
    size = (rois[:, 2:] - rois[:, :2]).clamp(min=1)
    pixels = size.ceil()
    x, y, best = find_peaks(maps, pixels)
    xy = (torch.stack([x, y], -1) + 0.5) * (size / pixels)[:, None] + rois[:, None, :2]
    score = (best - maps.flatten(2).logsumexp(-1)).exp()
    return torch.cat([xy, best[..., None], score[..., None]], -1)


@torch.library.custom_op("detectron2::heatmaps_to_keypoints", mutates_args=())
def _decode_op(maps: Tensor, rois: Tensor) -> Tensor:
    return _decode(maps, rois)


@_decode_op.register_fake
def _(maps: Tensor, rois: Tensor) -> Tensor:
    dtype = torch.promote_types(maps.dtype, torch.float32)
    return maps.new_empty((maps.shape[0], maps.shape[1], 4), dtype=dtype)


@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def _decode_one_by_one(maps: Tensor, rois: Tensor) -> Tensor:
    """Decode region by region; scripted, since a trace has neither loops nor sizes that depend on values."""
    maps = maps.float()
    out = maps.new_zeros((maps.shape[0], maps.shape[1], 4))
    for i in range(maps.shape[0]):
        near = rois[i, :2]
        size = (rois[i, 2:] - near).clamp(min=1)
        width, height = int(size[0].ceil()), int(size[1].ceil())
        full = F.interpolate(maps[i : i + 1], size=[height, width], mode="bicubic", align_corners=False)
        best, at = full[0].flatten(1).max(dim=-1)
        x = (at % width + 0.5) * (size[0] / width) + near[0]
        y = (torch.div(at, width, rounding_mode="floor") + 0.5) * (size[1] / height) + near[1]
        score = (best - maps[i].flatten(1).logsumexp(dim=-1)).exp()
        out[i] = torch.stack([x, y, best, score], dim=-1)
    return out


def decode_heatmaps(maps: Tensor, rois: Tensor) -> Tensor:
    """Map [R, K, S, S] logits and [R, 4] regions to [R, K, 4] of (x, y, logit, score)."""
    if torch.jit.is_tracing():
        return _decode_one_by_one(maps, rois)
    if torch.compiler.is_exporting():
        return decode_in_graph(maps, rois)
    # The size of the enlarged maps depends on values: for a compiled graph this is one opaque step.
    return _decode_op(maps, rois) if torch.compiler.is_compiling() else _decode(maps, rois)
