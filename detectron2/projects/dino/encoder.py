"""Encoders of Deformable DETR and DINO: deformable self-attention of the pixels of all levels.

References: https://arxiv.org/abs/2010.04159 and https://arxiv.org/abs/2203.03605
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .blocks import FFN, BaseTransformerLayer, MultiScaleDeformableAttention, TransformerLayerSequence

__all__ = ["DINOTransformerEncoder", "DeformableDetrTransformerEncoder"]


class DeformableDetrTransformerEncoder(TransformerLayerSequence):
    """The encoder of Deformable DETR.

    Args:
        embed_dim: channels.
        num_heads: heads.
        feedforward_dim: channels inside feed-forward networks.
        attn_dropout: rate of dropout after attention.
        ffn_dropout: rate of dropout inside and after feed-forward networks.
        num_layers: layers.
        post_norm: normalise the output once more.
        num_feature_levels: levels of the pyramid.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        attn_dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        num_layers: int = 6,
        post_norm: bool = False,
        num_feature_levels: int = 4,
    ) -> None:
        layer = BaseTransformerLayer(
            attn=MultiScaleDeformableAttention(
                embed_dim, num_heads, num_feature_levels, dropout=attn_dropout, batch_first=True
            ),
            ffn=FFN(embed_dim, feedforward_dim, ffn_drop=ffn_dropout),
            norm=nn.LayerNorm(embed_dim),
            operation_order=("self_attn", "norm", "ffn", "norm"),
        )
        super().__init__(layer, num_layers)
        self.embed_dim = embed_dim
        self.post_norm_layer = nn.LayerNorm(embed_dim) if post_norm else None

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_masks: Sequence[Tensor | None] | None = None,
        query_key_padding_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Transform pixels.

        Args:
            query: [N, S, C] pixels of all levels.
            key: unused.
            value: unused.
            query_pos: [N, S, C] positions.
            key_pos: unused.
            attn_masks: unused.
            query_key_padding_mask: [N, S]; True marks padding.
            key_padding_mask: unused.
            kwargs: ``reference_points`` [N, S, L, 2] and ``spatial_shapes``.

        Returns:
            [N, S, C].
        """
        for i in range(self.num_layers):
            query = self._apply_layer(
                i, query, query_pos=query_pos, query_key_padding_mask=query_key_padding_mask, **kwargs
            )
        return query if self.post_norm_layer is None else self.post_norm_layer(query)


class DINOTransformerEncoder(DeformableDetrTransformerEncoder):
    """The encoder of DINO.

    Args:
        embed_dim: channels.
        num_heads: heads.
        feedforward_dim: channels inside feed-forward networks.
        attn_dropout: rate of dropout after attention.
        ffn_dropout: rate of dropout inside and after feed-forward networks.
        num_layers: layers.
        post_norm: normalise the output once more.
        num_feature_levels: levels of the pyramid.
        use_checkpoint: compute layers again in the backward pass, to save memory.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        attn_dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        num_layers: int = 6,
        post_norm: bool = False,
        num_feature_levels: int = 4,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            feedforward_dim,
            attn_dropout,
            ffn_dropout,
            num_layers,
            post_norm,
            num_feature_levels,
        )
        self.use_checkpoint = use_checkpoint
