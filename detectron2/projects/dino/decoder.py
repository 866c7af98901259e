"""Decoders of Deformable DETR and DINO: queries look at the pyramid around their boxes, and refine these layer by layer.

References: https://arxiv.org/abs/2010.04159 and https://arxiv.org/abs/2203.03605
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.modeling.transformer import MLP, refine_boxes
from detectron2.utils.errors import BadValue

from .blocks import (
    FFN,
    BaseTransformerLayer,
    MultiheadAttention,
    MultiScaleDeformableAttention,
    TransformerLayerSequence,
)
from .functions import get_sine_pos_embed

__all__ = ["DINOTransformerDecoder", "DeformableDetrTransformerDecoder", "refined"]


def refined(deltas: Tensor, reference: Tensor) -> Tensor:
    """Move boxes; :func:`~detectron2.modeling.transformer.refine_boxes` with the ``eps`` of detrex."""
    return refine_boxes(deltas, reference, eps=1e-3)


class DeformableDetrTransformerDecoder(TransformerLayerSequence):
    """The decoder of Deformable DETR.

    The model may set ``bbox_embed``, one head for each layer: then every layer refines the boxes of its queries.

    Args:
        embed_dim: channels.
        num_heads: heads.
        feedforward_dim: channels inside feed-forward networks.
        attn_dropout: rate of dropout of and after attention.
        ffn_dropout: rate of dropout inside and after feed-forward networks.
        num_layers: layers.
        return_intermediate: return the results of all layers rather than of the last.
        num_feature_levels: levels of the pyramid.
    """

    bbox_embed: nn.ModuleList | None
    class_embed: nn.ModuleList | None

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        attn_dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        num_layers: int = 6,
        return_intermediate: bool = True,
        num_feature_levels: int = 4,
    ) -> None:
        attention = [
            MultiheadAttention(embed_dim, num_heads, attn_dropout, batch_first=True),
            MultiScaleDeformableAttention(
                embed_dim, num_heads, num_feature_levels, dropout=attn_dropout, batch_first=True
            ),
        ]
        layer = BaseTransformerLayer(
            attn=attention,
            ffn=FFN(embed_dim, feedforward_dim, ffn_drop=ffn_dropout),
            norm=nn.LayerNorm(embed_dim),
            operation_order=("self_attn", "norm", "cross_attn", "norm", "ffn", "norm"),
        )
        super().__init__(layer, num_layers)
        self.embed_dim = embed_dim
        self.return_intermediate = return_intermediate
        self.bbox_embed = None
        self.class_embed = None

    look_forward_twice = False

    def _query_pos(self, query_pos: Tensor | None, boxes: Tensor) -> Tensor | None:
        """Positions of the queries, given as such or by their boxes [N, Q, 2 or 4] on the first level."""
        return query_pos

    def _output(self, query: Tensor) -> Tensor:
        return query

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_masks: Tensor | Sequence[Tensor | None] | None = None,
        query_key_padding_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        valid_ratios: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Transform queries.

        Args:
            query: [N, Q, C].
            key: unused.
            value: [N, S, C] pixels of all levels.
            query_pos: [N, Q, C] positions of the queries.
            key_pos: unused.
            attn_masks: of self-attention and of cross-attention; True hides.
            query_key_padding_mask: [N, Q] queries that the others do not see.
            key_padding_mask: [N, S]; True marks padding.
            reference_points: [N, Q, 2] points or [N, Q, 4] boxes (centre, size) in [0, 1] of the images.
            valid_ratios: [N, L, 2] shares of the levels that are not padding.
            kwargs: ``spatial_shapes``.

        Returns:
            * [layers, N, Q, C] queries after each layer; [N, Q, C] without ``return_intermediate``.
            * [layers, N, Q, 2 or 4] their references, the same without the first axis.
        """
        if reference_points is None or valid_ratios is None:
            raise BadValue("the decoder needs reference_points and valid_ratios")
        queries, references = [], []
        for i in range(self.num_layers):
            ratios = valid_ratios if reference_points.shape[-1] == 2 else torch.cat([valid_ratios] * 2, -1)
            on_levels = reference_points[:, :, None] * ratios[:, None]  # [N, Q, L, 2 or 4]
            query = self._apply_layer(
                i,
                query,
                key,
                value,
                query_pos=self._query_pos(query_pos, on_levels[:, :, 0]),
                attn_masks=attn_masks,
                query_key_padding_mask=query_key_padding_mask,
                key_padding_mask=key_padding_mask,
                reference_points=on_levels,
                **kwargs,
            )
            moved = reference_points
            if self.bbox_embed is not None:
                moved = refined(self.bbox_embed[i](query), reference_points)
                reference_points = moved.detach()
            queries.append(self._output(query))
            references.append(moved if self.look_forward_twice else reference_points)
        if self.return_intermediate:
            return torch.stack(queries), torch.stack(references)
        return queries[-1], references[-1]


class DINOTransformerDecoder(DeformableDetrTransformerDecoder):
    """The decoder of DINO: positions of the queries come from their boxes, anew in each layer.

    Args:
        embed_dim: channels.
        num_heads: heads.
        feedforward_dim: channels inside feed-forward networks.
        attn_dropout: rate of dropout of and after attention.
        ffn_dropout: rate of dropout inside and after feed-forward networks.
        num_layers: layers.
        return_intermediate: return the results of all layers rather than of the last.
        num_feature_levels: levels of the pyramid.
        look_forward_twice: let the loss of a layer also train the box of the layer before.
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
        return_intermediate: bool = True,
        num_feature_levels: int = 4,
        look_forward_twice: bool = True,
        use_checkpoint: bool = True,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            feedforward_dim,
            attn_dropout,
            ffn_dropout,
            num_layers,
            return_intermediate,
            num_feature_levels,
        )
        self.look_forward_twice = look_forward_twice
        self.use_checkpoint = use_checkpoint
        self.ref_point_head = MLP(2 * embed_dim, embed_dim, embed_dim, 2)
        self.norm = nn.LayerNorm(embed_dim)

    def _query_pos(self, query_pos: Tensor | None, boxes: Tensor) -> Tensor | None:
        return self.ref_point_head(get_sine_pos_embed(boxes, self.embed_dim // 2))

    def _output(self, query: Tensor) -> Tensor:
        return self.norm(query)
