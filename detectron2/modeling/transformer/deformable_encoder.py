"""The encoder of Deformable DETR: each pixel of each level attends to sampled points around it.

Reference: Deformable DETR, https://arxiv.org/abs/2010.04159
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detectron2.layers import MSDeformAttn
from detectron2.layers.deformable_attention import SpatialShapes

from .activation import activation_function
from .reference_points import pixel_reference_points

__all__ = [
    "MSDeformAttnTransformerEncoder",
    "MSDeformAttnTransformerEncoderLayer",
    "flatten_levels",
    "level_start_index",
]


def flatten_levels(levels: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
    """Flatten the pixels of all levels into one axis, in row-major order, level after level.

    Args:
        levels: L maps [N, C, H_l, W_l].

    Returns:
        [N, S, C], and (height, width) of the levels.
    """
    shapes = [(level.shape[2], level.shape[3]) for level in levels]
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1), shapes


def level_start_index(spatial_shapes: Tensor) -> Tensor:
    """Return the index [L] of the first pixel of each level, given their sizes [L, 2]."""
    area = spatial_shapes.prod(1)
    return area.cumsum(0) - area


class MSDeformAttnTransformerEncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, each followed by dropout, a shortcut and a norm.

    Args:
        d_model: channels.
        d_ffn: hidden channels of the feed-forward network.
        dropout: dropout rate.
        activation: activation of the feed-forward network, "relu" or "gelu".
        n_levels: number of levels.
        n_heads: number of heads.
        n_points: sampled points per head and level.
    """

    def __init__(
        self,
        d_model: int = 256,
        d_ffn: int = 1024,
        dropout: float = 0.1,
        activation: str = "relu",
        n_levels: int = 4,
        n_heads: int = 8,
        n_points: int = 4,
    ) -> None:
        super().__init__()
        self.self_attn = MSDeformAttn(d_model, n_levels, n_heads, n_points)
        self.dropout1 = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.linear1 = nn.Linear(d_model, d_ffn)
        self.activation = activation_function(activation)
        self.dropout2 = nn.Dropout(dropout)
        self.linear2 = nn.Linear(d_ffn, d_model)
        self.dropout3 = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(d_model)

    @staticmethod
    def with_pos_embed(tensor: Tensor, pos: Tensor | None) -> Tensor:
        """Add positions, unless they are None."""
        return tensor if pos is None else tensor + pos

    def forward_ffn(self, src: Tensor) -> Tensor:
        """Apply the feed-forward network with its shortcut and norm."""
        hidden = self.dropout2(self.activation(self.linear1(src)))
        return self.norm2(src + self.dropout3(self.linear2(hidden)))

    def forward(
        self,
        src: Tensor,
        pos: Tensor | None,
        reference_points: Tensor,
        spatial_shapes: SpatialShapes,
        level_start_index: Tensor | None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Apply the layer to the pixels of all levels.

        Args:
            src: [N, S, C] features of the S pixels.
            pos: [N, S, C] position encodings, added to the queries; or None.
            reference_points: [N, S, L, 2], see :func:`pixel_reference_points`.
            spatial_shapes: (height, width) of the L levels.
            level_start_index: not used.
            padding_mask: [N, S]; True marks padding.

        Returns:
            [N, S, C].
        """
        attended = self.self_attn(
            self.with_pos_embed(src, pos), reference_points, src, spatial_shapes, None, padding_mask
        )
        return self.forward_ffn(self.norm1(src + self.dropout1(attended)))


class MSDeformAttnTransformerEncoder(nn.Module):
    """A sequence of equal layers.

    Args:
        encoder_layer: the layer to copy.
        num_layers: number of layers.
    """

    def __init__(self, encoder_layer: nn.Module, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_layers = num_layers

    @staticmethod
    def get_reference_points(
        spatial_shapes: SpatialShapes, valid_ratios: Tensor, device: torch.device | str
    ) -> Tensor:
        """Compute the reference points of all pixels; see :func:`pixel_reference_points`."""
        shapes = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
        return pixel_reference_points([(h, w) for h, w in shapes], valid_ratios.to(device))

    def forward(
        self,
        src: Tensor,
        spatial_shapes: SpatialShapes,
        level_start_index: Tensor | None,
        valid_ratios: Tensor,
        pos: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Apply all layers; see :meth:`MSDeformAttnTransformerEncoderLayer.forward`.

        Args:
            src: [N, S, C] features of the S pixels.
            spatial_shapes: (height, width) of the L levels.
            level_start_index: not used.
            valid_ratios: [N, L, 2], see :func:`valid_ratio`.
            pos: [N, S, C] position encodings, or None.
            padding_mask: [N, S]; True marks padding.
        """
        points = self.get_reference_points(spatial_shapes, valid_ratios, src.device)
        for layer in self.layers:
            src = layer(src, pos, points, spatial_shapes, None, padding_mask)
        return src
