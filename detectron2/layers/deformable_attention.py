"""Multi-scale deformable attention: each query attends to a few points on every level of a feature pyramid.

Reference: Deformable DETR, https://arxiv.org/abs/2010.04159
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detectron2.utils.errors import BadValue

from .wrappers import shapes_to_tensor

__all__ = ["MSDeformAttn", "SpatialShapes", "multi_scale_deformable_attention"]

SpatialShapes: TypeAlias = Tensor | Sequence[tuple[int, int]]
"""Height and width of every level; must be a list to export a graph with dynamic sizes."""

# Pixels gathered at once: 2 ** 22 of them take about 100 MiB.
_CORNERS_AT_ONCE = 2**22


def multi_scale_deformable_attention(
    value: Tensor,
    value_spatial_shapes: SpatialShapes,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Compute the weighted sum of values at sampling points, for each query and head.

    Values are interpolated bilinearly; outside a map they are zero. The computation uses at least float32, since
    positions in half precision would be too coarse.

    Args:
        value: [N, S, heads, D] features of the S pixels of all levels, row by row, level after level.
        value_spatial_shapes: (height, width) of each of L levels, an [L, 2] tensor or a list; S is the sum of their areas.
        sampling_locations: [N, Q, heads, L, P, 2] points (x, y) in [0, 1] of each map: (0, 0) is the top left corner
            of its top left pixel, (1, 1) the bottom right corner of its bottom right one.
        attention_weights: [N, Q, heads, L, P].

    Returns:
        [N, Q, heads * D], of the type of ``value``.
    """
    shapes = _pairs(value_spatial_shapes)
    _check(value, shapes, sampling_locations)
    dtype = torch.promote_types(value.dtype, torch.float32)
    given = value.to(dtype), sampling_locations.to(dtype), attention_weights.to(dtype)
    # Exported graphs and other devices may not support embedding_bag, but all support grid_sample.
    graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
    sums = _by_grids if graph or value.device.type not in ("cpu", "cuda") else _by_rows
    return sums(shapes, *given).to(value.dtype)


def _pairs(spatial_shapes: SpatialShapes) -> list[tuple[int, int]]:
    rows = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
    return [(h, w) for h, w in rows]


def _check(value: Tensor, shapes: list[tuple[int, int]], locations: Tensor) -> None:
    if locations.shape[3] != len(shapes):
        raise BadValue(f"there are {len(shapes)} levels, but sampling locations on {locations.shape[3]}")
    pixels = sum(h * w for h, w in shapes)
    if not torch.compiler.is_compiling() and value.shape[1] != pixels:
        raise BadValue(
            f"levels of sizes {shapes} have {pixels} pixels, but there are {value.shape[1]} values"
        )


def _by_grids(shapes: list[tuple[int, int]], value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Sample level by level with ``grid_sample``, so that only the samples of one level are in memory."""
    n, _, heads, dim = value.shape
    q = locations.shape[1]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # [N * heads, Q, L, P, 2]
    weights = weights.transpose(1, 2).flatten(0, 1)  # [N * heads, Q, L, P]
    total = value.new_zeros(n * heads, dim, q)
    for i, level in enumerate(value.split([h * w for h, w in shapes], 1)):
        maps = level.permute(0, 2, 3, 1).reshape(n * heads, dim, *shapes[i])
        samples = F.grid_sample(maps, grids[:, :, i], align_corners=False)  # [N * heads, D, Q, P]
        total = total + (samples * weights[:, None, :, i]).sum(-1)
    return total.view(n, heads * dim, q).transpose(1, 2)


def _by_rows(shapes: list[tuple[int, int]], value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Compute the weighted sum of the value rows at the four pixels around each point with ``embedding_bag``.

    The samples are never materialised and rows are contiguous: this is several times as fast as sampling maps. Many
    queries are processed in blocks, which are recomputed in the backward pass, so that the memory per query does not
    depend on the number of points.
    """
    corners = 4 * weights[:, :1].numel()
    block = max(1, _CORNERS_AT_ONCE // max(corners, 1))
    queries = locations.shape[1]
    if queries <= block:
        return _gather(shapes, value, locations, weights)
    again = torch.is_grad_enabled() and any(t.requires_grad for t in (value, locations, weights))
    parts = []
    for some in zip(locations.split(block, 1), weights.split(block, 1)):
        if again:
            parts.append(
                checkpoint(_gather, shapes, value, *some, use_reentrant=False, preserve_rng_state=False)
            )
        else:
            parts.append(_gather(shapes, value, *some))
    return torch.cat(parts, 1)


def _gather(shapes: list[tuple[int, int]], value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    n, pixels, heads, dim = value.shape
    q = locations.shape[1]
    height, width, start = _level_table(shapes, value.device)  # each [L, 1]
    # Pixel centres are at integers. The clamp keeps numbers small far outside, where values are zero anyway.
    x = (locations[..., 0] * width - 0.5).clamp(-2, 2**24)  # [N, Q, heads, L, P]
    y = (locations[..., 1] * height - 0.5).clamp(-2, 2**24)
    left, top = x.detach().floor(), y.detach().floor()
    right_share, lower_share = x - left, y - top
    image = torch.arange(n, device=value.device)[:, None, None, None, None] * pixels + start
    head = torch.arange(heads, device=value.device)[:, None, None]
    rows, shares = [], []
    for dy, y_share in ((0, 1 - lower_share), (1, lower_share)):
        row = top.long() + dy
        row_exists = (row >= 0) & (row < height)
        for dx, x_share in ((0, 1 - right_share), (1, right_share)):
            column = left.long() + dx
            exists = row_exists & (column >= 0) & (column < width)
            rows.append(torch.where(exists, (image + row * width + column) * heads + head, 0))
            shares.append(torch.where(exists, y_share * x_share * weights, 0.0))
    out = F.embedding_bag(
        torch.stack(rows, -1).flatten(0, 2).flatten(1),
        value.flatten(0, 2),
        mode="sum",
        per_sample_weights=torch.stack(shares, -1).flatten(0, 2).flatten(1),
    )
    return out.view(n, q, heads * dim)


def _level_table(shapes: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return heights, widths and first pixels of the levels, each [L, 1]."""
    first, table = 0, []
    for h, w in shapes:
        table.append((h, w, first))
        first += h * w
    height, width, start = torch.tensor(table, device=device)[:, :, None].unbind(1)
    return height, width, start


class MSDeformAttn(nn.Module):
    """Attention to a few learned points around a reference on every level.

    Args:
        d_model: channels of queries, values and outputs; a multiple of ``n_heads``.
        n_levels: levels of the pyramid.
        n_heads: number of heads.
        n_points: points per head and level.

    Reference: section 4.1 of Deformable DETR.
    """

    def __init__(self, d_model: int = 256, n_levels: int = 4, n_heads: int = 8, n_points: int = 4) -> None:
        super().__init__()
        if d_model % n_heads:
            raise BadValue(f"the channels ({d_model}) must be a multiple of the heads ({n_heads})")
        self.d_model = d_model
        self.n_levels = n_levels
        self.n_heads = n_heads
        self.n_points = n_points
        samples = n_heads * n_levels * n_points
        self.sampling_offsets = nn.Linear(d_model, samples * 2)
        self.attention_weights = nn.Linear(d_model, samples)
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)
        self._reset_parameters()

    @torch.no_grad()
    def _reset_parameters(self) -> None:
        """Initialise each head with equal weights and its own direction, with point p at a distance of p + 1 pixels."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.n_heads, dtype=torch.float32) * (2 * math.pi / self.n_heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction /= direction.abs().amax(-1, keepdim=True)  # onto the sides of a square
        distance = torch.arange(1, self.n_points + 1, dtype=torch.float32)
        offsets = direction[:, None, None] * distance[:, None]  # [heads, 1, P, 2]
        self.sampling_offsets.bias.copy_(offsets.expand(-1, self.n_levels, -1, -1).flatten())

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        input_flatten: Tensor,
        input_spatial_shapes: SpatialShapes,
        input_level_start_index: Tensor | None = None,
        input_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: [N, Q, C].
            reference_points: [N, Q, L, 2] points (x, y) or [N, Q, L, 4] boxes (centre x, y, width, height), in [0, 1]
                of each level. Offsets are in pixels for points, and in half sides times 1 / P for boxes.
            input_flatten: [N, S, C] values, the pixels of all levels, row by row.
            input_spatial_shapes: (height, width) of the L levels, an [L, 2] tensor or a list.
            input_level_start_index: unused, since the shapes determine it.
            input_padding_mask: [N, S]; True marks pixels whose values are set to zero.

        Returns:
            [N, Q, C].
        """
        n, q, _ = query.shape
        value = self.value_proj(input_flatten)
        if input_padding_mask is not None:
            value = value.masked_fill(input_padding_mask[..., None], 0.0)
        value = value.view(n, -1, self.n_heads, self.d_model // self.n_heads)
        grid = (n, q, self.n_heads, self.n_levels, self.n_points)
        weights = self.attention_weights(query).view(n, q, self.n_heads, -1).softmax(-1).view(grid)
        offsets = self.sampling_offsets(query).view(*grid, 2)
        shapes = _pairs(input_spatial_shapes)
        points = self._locations(reference_points, offsets, shapes)
        return self.output_proj(multi_scale_deformable_attention(value, shapes, points, weights))

    def _locations(self, reference: Tensor, offsets: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Return sampling points [N, Q, heads, L, P, 2] in [0, 1] of each level."""
        reference = reference[:, :, None, :, None]  # [N, Q, 1, L, 1, 2 or 4]
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
        if reference.shape[-1] == 2:
            sizes = torch.stack([shapes_to_tensor((w, h), offsets.device) for h, w in shapes])
            return reference + offsets / sizes[:, None]
        if reference.shape[-1] == 4:
            centre, side = reference.split(2, -1)
            return centre + offsets / self.n_points * side * 0.5
        raise BadValue(f"reference_points must end in 2 or 4 numbers, got {tuple(reference.shape)}")
