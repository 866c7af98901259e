"""Positions of the pixels of feature maps, by sines or learnt."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.modeling.transformer import sine_encoding_of_map

__all__ = ["PositionEmbeddingLearned", "PositionEmbeddingSine"]


class PositionEmbeddingSine(nn.Module):
    """The sine position encoding; see :func:`~detectron2.modeling.transformer.sine_encoding_of_map`.

    Args:
        num_pos_feats: numbers for each of y and x.
        temperature: ratio of the longest wavelength to the shortest.
        scale: range of normalised positions.
        eps: added to the divisor of normalised positions.
        offset: added to counts before they are normalised; -0.5 means centres of pixels.
        normalize: let every map span the same range, whatever its size.
    """

    def __init__(
        self,
        num_pos_feats: int = 64,
        temperature: int = 10000,
        scale: float = 2 * math.pi,
        eps: float = 1e-6,
        offset: float = 0.0,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.num_pos_feats = num_pos_feats
        self.temperature = temperature
        self.scale = scale
        self.eps = eps
        self.offset = offset
        self.normalize = normalize

    def forward(self, mask: Tensor, **kwargs: Any) -> Tensor:
        """Encode the pixels of [N, H, W], where True marks padding: [N, 2 * num_pos_feats, H, W]."""
        return sine_encoding_of_map(
            mask.bool(),
            self.num_pos_feats,
            self.temperature,
            self.normalize,
            self.scale,
            self.eps,
            self.offset,
        )


class PositionEmbeddingLearned(nn.Module):
    """A learnt vector for each column and each row.

    Args:
        num_pos_feats: size of each.
        row_num_embed: largest height of a map.
        col_num_embed: largest width of a map.
    """

    def __init__(self, num_pos_feats: int = 256, row_num_embed: int = 50, col_num_embed: int = 50) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(row_num_embed, num_pos_feats)
        self.col_embed = nn.Embedding(col_num_embed, num_pos_feats)
        self.num_pos_feats = num_pos_feats
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors uniformly from [0, 1)."""
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, mask: Tensor) -> Tensor:
        """Encode the pixels of [N, H, W]: [N, 2 * num_pos_feats, H, W], columns first."""
        n, h, w = mask.shape
        column = self.col_embed.weight[:w].expand(h, -1, -1)
        row = self.row_embed.weight[:h, None].expand(-1, w, -1)
        return torch.cat([column, row], -1).permute(2, 0, 1).expand(n, -1, -1, -1)
