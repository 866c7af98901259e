"""Choose points on maps, and interpolate maps at points.

Coordinates are (x, y) in [0, 1] x [0, 1] of a map or box: (0, 0) is the top left corner of the top left pixel, (1, 1)
the bottom right corner of the bottom right one, at every resolution. The chosen coordinates have no gradients.

Reference: PointRend: Image Segmentation as Rendering, https://arxiv.org/abs/1912.08193
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.utils.errors import BadValue
from detectron2.utils.tracing import smaller

__all__ = [
    "generate_regular_grid_point_coords",
    "get_point_coords_wrt_box",
    "get_point_coords_wrt_image",
    "get_uncertain_point_coords_on_grid",
    "get_uncertain_point_coords_with_randomness",
    "point_sample",
    "point_sample_pyramid",
]


def point_sample(input: Tensor, point_coords: Tensor, **kwargs: Any) -> Tensor:
    """Interpolate maps at points.

    Half-precision maps are interpolated in float32, since positions would otherwise be too coarse; integer and boolean
    maps give float32.

    Args:
        input: [N, C, H, W] maps.
        point_coords: [N, P, 2] or [N, H', W', 2] coordinates in [0, 1] of the maps.
        **kwargs: passed to ``torch.nn.functional.grid_sample`` (``mode``, ``padding_mode``, ``align_corners``).

    Returns:
        [N, C, P] or [N, C, H', W'] values.
    """
    dtype = torch.promote_types(input.dtype, torch.float32)
    grid = point_coords.to(dtype) * 2 - 1
    is_list = grid.dim() == 3
    sampled = F.grid_sample(input.to(dtype), grid.unsqueeze(2) if is_list else grid, **kwargs)
    if input.is_floating_point():
        sampled = sampled.to(input.dtype)
    return sampled.squeeze(3) if is_list else sampled


@torch.no_grad()
def generate_regular_grid_point_coords(R: int, side_size: int, device: torch.device | str | None) -> Tensor:
    """Return the centres of the cells of a square grid, row by row, for each of ``R`` boxes.

    Args:
        R: number of boxes.
        side_size: cells along each side.
        device: device of the result.

    Returns:
        [R, side_size ** 2, 2] coordinates in [0, 1].
    """
    centres = (torch.arange(side_size, device=device, dtype=torch.float32) + 0.5) / side_size
    grid = torch.cartesian_prod(centres, centres).flip(1)  # (y, x) -> (x, y)
    return grid.expand(R, -1, -1)


@torch.no_grad()
def get_uncertain_point_coords_with_randomness(
    coarse_logits: Tensor,
    uncertainty_func: Callable[[Tensor], Tensor],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> Tensor:
    """Draw points for training: the most uncertain of many random candidates, and further random points.

    Args:
        coarse_logits: [N, C, H, W] predictions whose uncertainty is measured.
        uncertainty_func: maps [N, C, P] logits to [N, 1, P] uncertainties; the higher, the less certain.
        num_points: number of points P.
        oversample_ratio: number of candidates divided by ``num_points``, at least 1.
        importance_sample_ratio: share of the points, in [0, 1], that are chosen for their uncertainty.

    Returns:
        [N, P, 2] coordinates in [0, 1].

    Reference: section 3.1 of PointRend.
    """
    if oversample_ratio < 1:
        raise BadValue(f"oversample_ratio must be at least 1, got {oversample_ratio}")
    if not 0 <= importance_sample_ratio <= 1:
        raise BadValue(f"importance_sample_ratio must be in [0, 1], got {importance_sample_ratio}")
    n = coarse_logits.shape[0]
    num_important = int(importance_sample_ratio * num_points)
    candidates = torch.rand(n, int(num_points * oversample_ratio), 2, device=coarse_logits.device)
    uncertainty = uncertainty_func(point_sample(coarse_logits, candidates, align_corners=False))
    best = uncertainty[:, 0].topk(num_important, dim=1).indices
    important = candidates.take_along_dim(best[:, :, None], dim=1)
    others = torch.rand(n, num_points - num_important, 2, device=coarse_logits.device)
    return torch.cat([important, others], dim=1)


@torch.no_grad()
def get_uncertain_point_coords_on_grid(uncertainty_map: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
    """Find the most uncertain pixels of maps.

    Args:
        uncertainty_map: [N, 1, H, W]; the higher, the less certain.
        num_points: number of pixels to select; all if the map has fewer.

    Returns:
        [N, P] indices ``y * W + x``, most uncertain first, and [N, P, 2] coordinates in [0, 1] of their centres.
    """
    h, w = uncertainty_map.shape[-2:]
    indices = uncertainty_map.flatten(1).topk(smaller(num_points, h * w), dim=1).indices
    x = (indices % w + 0.5) / w
    y = (indices // w + 0.5) / h
    return indices, torch.stack([x, y], dim=2)


@torch.no_grad()
def get_point_coords_wrt_image(boxes_coords: Tensor, point_coords: Tensor) -> Tensor:
    """Convert points relative to boxes to image coordinates.

    Args:
        boxes_coords: [R, 4] boxes (x0, y0, x1, y1) in pixels.
        point_coords: [R, P, 2] coordinates in [0, 1] of each box.

    Returns:
        [R, P, 2] coordinates in pixels of the image.
    """
    corner, size = _corners_and_sizes(boxes_coords)
    return corner + point_coords * size


@torch.no_grad()
def get_point_coords_wrt_box(boxes_coords: Tensor, point_coords: Tensor) -> Tensor:
    """Convert image coordinates to points relative to boxes; the inverse of ``get_point_coords_wrt_image``.

    Args:
        boxes_coords: [R, 4] boxes (x0, y0, x1, y1) in pixels, of positive width and height.
        point_coords: [R, P, 2] coordinates in pixels of the image.

    Returns:
        [R, P, 2] coordinates, in [0, 1] for points within their box.
    """
    corner, size = _corners_and_sizes(boxes_coords)
    return (point_coords - corner) / size


def point_sample_pyramid(
    features: Sequence[Tensor],
    scales: Sequence[float],
    boxes: Sequence[Tensor],
    point_coords: Tensor,
) -> tuple[Tensor, Tensor]:
    """Interpolate every level of a feature pyramid at points of boxes.

    Args:
        features: L maps [N, C_l, H_l, W_l].
        scales: L sizes of the maps relative to the image, such as 1 / stride.
        boxes: N tensors [R_i, 4], the boxes of each image in pixels; R boxes in total.
        point_coords: [R, P, 2] coordinates in [0, 1] of each box.

    Returns:
        [R, sum of C_l, P] features, concatenated over levels, and [R, P, 2] coordinates in pixels of the images.
    """
    coords = get_point_coords_wrt_image(torch.cat(list(boxes)), point_coords)
    per_image = coords.split([len(b) for b in boxes])
    levels = [
        torch.cat([_sample_image(f[i], points, scale) for i, points in enumerate(per_image)])
        for f, scale in zip(features, scales, strict=True)
    ]
    return torch.cat(levels, dim=1), coords


def _corners_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return top left corners and sizes of [R, 4] boxes, each [R, 1, 2]."""
    corner, opposite = boxes[:, None, :2], boxes[:, None, 2:]
    return corner, opposite - corner


def _sample_image(feature: Tensor, coords: Tensor, scale: float) -> Tensor:
    """Interpolate a [C, H, W] map at [R, P, 2] points in pixels of the image: [R, C, P]."""
    h, w = feature.shape[-2:]
    x, y = coords.unbind(-1)
    relative = torch.stack([x * scale / w, y * scale / h], dim=-1)
    return point_sample(feature[None], relative[None], align_corners=False)[0].transpose(0, 1)
