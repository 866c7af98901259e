"""Transformers of Deformable DETR and DINO: encoder, selection of queries, decoder.

References: https://arxiv.org/abs/2010.04159 and https://arxiv.org/abs/2203.03605
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detectron2.layers.deformable_attention import SpatialShapes
from detectron2.modeling.transformer import (
    best_proposals,
    encoder_proposals,
    flatten_levels,
    pixel_reference_points,
    select,
    valid_ratio,
)
from detectron2.utils.errors import BadValue

from .blocks import MultiScaleDeformableAttention
from .decoder import DeformableDetrTransformerDecoder
from .encoder import DeformableDetrTransformerEncoder
from .functions import get_sine_pos_embed

__all__ = ["DINOTransformer", "DeformableDetrTransformer"]


def _pairs(shapes: SpatialShapes) -> list[tuple[int, int]]:
    rows = shapes.tolist() if isinstance(shapes, Tensor) else shapes
    return [(h, w) for h, w in rows]


class _Pixels(NamedTuple):
    """What the encoder has made of the pixels of all levels."""

    memory: Tensor  # [N, S, C]
    hidden: Tensor  # [N, S], True in padding
    shapes: list[tuple[int, int]]
    valid_ratios: Tensor  # [N, L, 2]


class _DeformableTransformer(nn.Module):
    """Encoder and decoder over a pyramid, and proposals of the encoder's pixels."""

    enc_output: nn.Module
    enc_output_norm: nn.Module

    def __init__(
        self,
        encoder: DeformableDetrTransformerEncoder | None,
        decoder: DeformableDetrTransformerDecoder | None,
        num_feature_levels: int,
        two_stage_num_proposals: int,
    ) -> None:
        super().__init__()
        if encoder is None or decoder is None:
            raise BadValue("the transformer needs an encoder and a decoder")
        self.encoder = encoder
        self.decoder = decoder
        self.num_feature_levels = num_feature_levels
        self.two_stage_num_proposals = two_stage_num_proposals
        self.embed_dim: int = encoder.embed_dim
        self.level_embeds = nn.Parameter(torch.zeros(num_feature_levels, self.embed_dim))

    def init_weights(self) -> None:
        """Draw weights, and let deformable attention begin with directions of its own for each head."""
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
        for m in self.modules():
            if isinstance(m, MultiScaleDeformableAttention):
                m.init_weights()
        nn.init.normal_(self.level_embeds)

    @staticmethod
    def get_reference_points(
        spatial_shapes: SpatialShapes, valid_ratios: Tensor, device: torch.device | str
    ) -> Tensor:
        """Place queries on pixels; see :func:`~detectron2.modeling.transformer.pixel_reference_points`."""
        return pixel_reference_points(_pairs(spatial_shapes), valid_ratios.to(device))

    def get_valid_ratio(self, mask: Tensor) -> Tensor:
        """Measure what is not padding; see :func:`~detectron2.modeling.transformer.valid_ratio`."""
        return valid_ratio(mask)

    def gen_encoder_output_proposals(
        self, memory: Tensor, memory_padding_mask: Tensor, spatial_shapes: SpatialShapes
    ) -> tuple[Tensor, Tensor]:
        """Let every pixel propose a box.

        Args:
            memory: [N, S, C] output of the encoder.
            memory_padding_mask: [N, S]; True marks padding.
            spatial_shapes: (height, width) of the levels.

        Returns:
            [N, S, C] features of the proposals and [N, S, 4] log-odds of their boxes, infinite where there is none.
        """
        memory, proposals = encoder_proposals(memory, memory_padding_mask, spatial_shapes)
        return self.enc_output_norm(self.enc_output(memory)), proposals

    def _encode(
        self, feats: Sequence[Tensor], masks: Sequence[Tensor], positions: Sequence[Tensor]
    ) -> _Pixels:
        pixels, shapes = flatten_levels(feats)
        where, _ = flatten_levels([p + e[:, None, None] for p, e in zip(positions, self.level_embeds)])
        hidden = torch.cat([m.flatten(1) for m in masks], 1)
        ratios = torch.stack([self.get_valid_ratio(m) for m in masks], 1)
        memory = self.encoder(
            pixels,
            None,
            None,
            query_pos=where,
            query_key_padding_mask=hidden,
            spatial_shapes=shapes,
            reference_points=pixel_reference_points(shapes, ratios),
        )
        return _Pixels(memory, hidden, shapes, ratios)

    def _decode(self, pixels: _Pixels, queries: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
        states, references = self.decoder(
            queries,
            None,
            pixels.memory,
            key_padding_mask=pixels.hidden,
            spatial_shapes=pixels.shapes,
            valid_ratios=pixels.valid_ratios,
            **kwargs,
        )
        return states, references

    def _propose(self, pixels: _Pixels) -> tuple[Tensor, Tensor, Tensor]:
        """Features [N, S, C] of proposals, their class logits and log-odds of boxes, from the last heads."""
        heads = self.decoder.class_embed, self.decoder.bbox_embed
        if heads[0] is None or heads[1] is None:
            raise BadValue("two-stage detection needs heads: set decoder.class_embed and decoder.bbox_embed")
        features, odds = self.gen_encoder_output_proposals(pixels.memory, pixels.hidden, pixels.shapes)
        return features, heads[0][-1](features), heads[1][-1](features) + odds


class DINOTransformer(_DeformableTransformer):
    """The transformer of DINO.

    Boxes of the queries come from the encoder's best proposals, their content is learnt: mixed query selection.

    Args:
        encoder: the encoder.
        decoder: the decoder; the model gives it its heads, of which the last are those of query selection.
        num_feature_levels: levels of the pyramid.
        two_stage_num_proposals: queries.
        learnt_init_query: let queries begin with learnt content, rather than with the features of the proposals.
    """

    def __init__(
        self,
        encoder: DeformableDetrTransformerEncoder | None = None,
        decoder: DeformableDetrTransformerDecoder | None = None,
        num_feature_levels: int = 4,
        two_stage_num_proposals: int = 900,
        learnt_init_query: bool = True,
    ) -> None:
        super().__init__(encoder, decoder, num_feature_levels, two_stage_num_proposals)
        self.learnt_init_query = learnt_init_query
        if learnt_init_query:
            self.tgt_embed = nn.Embedding(two_stage_num_proposals, self.embed_dim)
        self.enc_output = nn.Linear(self.embed_dim, self.embed_dim)
        self.enc_output_norm = nn.LayerNorm(self.embed_dim)
        self.init_weights()

    def forward(
        self,
        multi_level_feats: Sequence[Tensor],
        multi_level_masks: Sequence[Tensor],
        multi_level_pos_embeds: Sequence[Tensor],
        query_embed: tuple[Tensor | None, Tensor | None],
        attn_masks: Sequence[Tensor | None] | None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            multi_level_feats: L maps [N, C, H_l, W_l].
            multi_level_masks: L masks [N, H_l, W_l]; True marks padding.
            multi_level_pos_embeds: L maps [N, C, H_l, W_l] of positions.
            query_embed: denoising queries [N, D, C] and the log-odds of their boxes [N, D, 4], or None twice.
            attn_masks: of self-attention and of cross-attention of the decoder; True hides a query from another.
            kwargs: handed to the decoder.

        Returns:
            * [layers, N, D + Q, C] queries after each layer of the decoder.
            * [N, D + Q, 4] their boxes before the first.
            * [layers, N, D + Q, 4] their boxes after each.
            * [N, Q, C] features of the chosen proposals.
            * [N, Q, 4] their boxes.
        """
        pixels = self._encode(multi_level_feats, multi_level_masks, multi_level_pos_embeds)
        features, logits, odds = self._propose(pixels)
        best = best_proposals(logits.amax(-1), self.two_stage_num_proposals)
        chosen, chosen_boxes = select(features, best), select(odds, best).sigmoid()
        boxes = chosen_boxes.detach()
        queries = (
            self.tgt_embed.weight[None, : chosen.shape[1]].expand(len(chosen), -1, -1)
            if self.learnt_init_query
            else chosen.detach()
        )
        dn_queries, dn_odds = query_embed
        if dn_queries is not None and dn_odds is not None:
            queries = torch.cat([dn_queries, queries], 1)
            boxes = torch.cat([dn_odds.sigmoid(), boxes], 1)
        states, references = self._decode(
            pixels, queries, reference_points=boxes, attn_masks=attn_masks, **kwargs
        )
        return states, boxes, references, chosen, chosen_boxes


class DeformableDetrTransformer(_DeformableTransformer):
    """The transformer of Deformable DETR.

    Args:
        encoder: the encoder.
        decoder: the decoder; for two stages the model gives it its heads, of which the last are those of proposals.
        num_feature_levels: levels of the pyramid.
        as_two_stage: let queries be the encoder's best proposals, rather than learnt.
        two_stage_num_proposals: queries in two stages.
    """

    def __init__(
        self,
        encoder: DeformableDetrTransformerEncoder | None = None,
        decoder: DeformableDetrTransformerDecoder | None = None,
        num_feature_levels: int = 4,
        as_two_stage: bool = False,
        two_stage_num_proposals: int = 300,
    ) -> None:
        super().__init__(encoder, decoder, num_feature_levels, two_stage_num_proposals)
        self.as_two_stage = as_two_stage
        dim = self.embed_dim
        if as_two_stage:
            self.enc_output = nn.Linear(dim, dim)
            self.enc_output_norm = nn.LayerNorm(dim)
            self.pos_trans = nn.Linear(dim * 2, dim * 2)
            self.pos_trans_norm = nn.LayerNorm(dim * 2)
        else:
            self.reference_points = nn.Linear(dim, 2)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw weights; points begin around the centres of the images."""
        super().init_weights()
        if not self.as_two_stage:
            nn.init.xavier_normal_(self.reference_points.weight, gain=1.0)
            nn.init.zeros_(self.reference_points.bias)

    def get_proposal_pos_embed(
        self, proposals: Tensor, num_pos_feats: int = 128, temperature: int = 10000
    ) -> Tensor:
        """Encode the log-odds [N, Q, 4] of boxes as sines and cosines, [N, Q, 4 * num_pos_feats]."""
        return get_sine_pos_embed(proposals.sigmoid(), num_pos_feats, temperature, exchange_xy=False)

    def forward(
        self,
        multi_level_feats: Sequence[Tensor],
        multi_level_masks: Sequence[Tensor],
        multi_level_pos_embeds: Sequence[Tensor],
        query_embed: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """Detect.

        Args:
            multi_level_feats: L maps [N, C, H_l, W_l].
            multi_level_masks: L masks [N, H_l, W_l]; True marks padding.
            multi_level_pos_embeds: L maps [N, C, H_l, W_l] of positions.
            query_embed: [Q, 2 * C] positions and contents of queries; None in two stages.
            kwargs: handed to the decoder.

        Returns:
            * [layers, N, Q, C] queries after each layer of the decoder.
            * [N, Q, 2 or 4] their references before the first.
            * [layers, N, Q, 2 or 4] their references after each.
            * in two stages class logits [N, S, classes] and log-odds of boxes [N, S, 4] of all proposals.
        """
        pixels = self._encode(multi_level_feats, multi_level_masks, multi_level_pos_embeds)
        logits = odds = None
        if self.as_two_stage:
            _, logits, odds = self._propose(pixels)
            best = best_proposals(logits[..., 0], self.two_stage_num_proposals)
            chosen = select(odds, best).detach()
            references = chosen.sigmoid()
            embed = self.pos_trans_norm(self.pos_trans(self.get_proposal_pos_embed(chosen)))
        else:
            if query_embed is None:
                raise BadValue("query_embed must be given unless as_two_stage")
            embed = query_embed[None].expand(len(pixels.memory), -1, -1)
            references = self.reference_points(embed[..., : self.embed_dim]).sigmoid()
        positions, queries = embed.split(self.embed_dim, -1)
        states, moved = self._decode(
            pixels, queries, query_pos=positions, reference_points=references, **kwargs
        )
        return states, references, moved, logits, odds
