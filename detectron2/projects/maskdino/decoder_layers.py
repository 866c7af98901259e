"""Layers of the decoder: queries look at each other and at the pyramid around their boxes, and refine these.

References: Deformable DETR, https://arxiv.org/abs/2010.04159; DAB-DETR, https://arxiv.org/abs/2201.12329; DINO,
https://arxiv.org/abs/2203.03605
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from detectron2.layers import MSDeformAttn
from detectron2.layers.deformable_attention import SpatialShapes
from detectron2.modeling.transformer import MLP, activation_function, refine_boxes, sine_encoding_of_boxes
from detectron2.utils.errors import BadValue

__all__ = ["DeformableTransformerDecoderLayer", "TransformerDecoder", "gen_sineembed_for_position"]


def gen_sineembed_for_position(pos_tensor: Tensor) -> Tensor:
    """Encode points [..., 2] or boxes [..., 4] in [0, 1] by 128 sines and cosines for each number, y first."""
    return sine_encoding_of_boxes(pos_tensor)


class DeformableTransformerDecoderLayer(nn.Module):
    """Self-attention of queries, deformable attention to pixels and a feed-forward network, each with sum and norm.

    Q queries, S pixels of L levels, N images, C channels.

    Args:
        d_model: channels.
        d_ffn: channels inside the feed-forward network.
        dropout: rate of dropout.
        activation: of the feed-forward network: "relu" or "gelu".
        n_levels: levels of the pyramid.
        n_heads: heads.
        n_points: points of each head on each level.
        use_deformable_box_attn: must be False.
        key_aware_type: must be None.
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
        use_deformable_box_attn: bool = False,
        key_aware_type: str | None = None,
    ) -> None:
        super().__init__()
        if use_deformable_box_attn or key_aware_type is not None:
            raise BadValue("there is no box attention and no key-aware attention: leave these arguments out")
        self.cross_attn = MSDeformAttn(d_model, n_levels, n_heads, n_points)
        self.dropout1 = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.self_attn: nn.MultiheadAttention | None = nn.MultiheadAttention(d_model, n_heads, dropout)
        self.dropout2: nn.Module | None = nn.Dropout(dropout)
        self.norm2: nn.Module | None = nn.LayerNorm(d_model)
        self.linear1 = nn.Linear(d_model, d_ffn)
        self.activation = activation_function(activation)
        self.dropout3 = nn.Dropout(dropout)
        self.linear2 = nn.Linear(d_ffn, d_model)
        self.dropout4 = nn.Dropout(dropout)
        self.norm3 = nn.LayerNorm(d_model)

    def rm_self_attn_modules(self) -> None:
        """Take the self-attention out."""
        self.self_attn = self.dropout2 = self.norm2 = None

    @staticmethod
    def with_pos_embed(tensor: Tensor, pos: Tensor | None) -> Tensor:
        """Add positions, if there are any."""
        return tensor if pos is None else tensor + pos

    def forward_ffn(self, tgt: Tensor) -> Tensor:
        """Apply the feed-forward network, the sum and its norm."""
        hidden = self.dropout3(self.activation(self.linear1(tgt)))
        return self.norm3(tgt + self.dropout4(self.linear2(hidden)))

    def forward(
        self,
        tgt: Tensor,
        tgt_query_pos: Tensor | None = None,
        tgt_query_sine_embed: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        tgt_reference_points: Tensor | None = None,
        memory: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        memory_level_start_index: Tensor | None = None,
        memory_spatial_shapes: SpatialShapes | None = None,
        memory_pos: Tensor | None = None,
        self_attn_mask: Tensor | None = None,
        cross_attn_mask: Tensor | None = None,
    ) -> Tensor:
        """Update queries.

        Args:
            tgt: [Q, N, C] queries.
            tgt_query_pos: [Q, N, C] their positions.
            tgt_query_sine_embed: unused; ``tgt_query_pos`` is made of it.
            tgt_key_padding_mask: [N, Q] queries that the others do not see.
            tgt_reference_points: [Q, N, L, 4] boxes (or 2: points) on each level.
            memory: [S, N, C] pixels.
            memory_key_padding_mask: [N, S]; True marks padding.
            memory_level_start_index: unused, since the shapes tell it.
            memory_spatial_shapes: (height, width) of the levels.
            memory_pos: unused.
            self_attn_mask: bool [Q, Q]; True hides a query (column) from another (row).
            cross_attn_mask: must be None.

        Returns:
            [Q, N, C].
        """
        if tgt_reference_points is None or memory is None or memory_spatial_shapes is None:
            raise BadValue("the layer needs tgt_reference_points, memory and memory_spatial_shapes")
        if cross_attn_mask is not None:
            raise BadValue("deformable attention takes no cross_attn_mask")
        if self.self_attn is not None and self.norm2 is not None and self.dropout2 is not None:
            placed = self.with_pos_embed(tgt, tgt_query_pos)
            seen, _ = self.self_attn(
                placed, placed, tgt, tgt_key_padding_mask, need_weights=False, attn_mask=self_attn_mask
            )
            tgt = self.norm2(tgt + self.dropout2(seen))
        found = self.cross_attn(
            self.with_pos_embed(tgt, tgt_query_pos).transpose(0, 1),
            tgt_reference_points.transpose(0, 1),
            memory.transpose(0, 1),
            memory_spatial_shapes,
            None,
            memory_key_padding_mask,
        ).transpose(0, 1)
        return self.forward_ffn(self.norm1(tgt + self.dropout1(found)))


class TransformerDecoder(nn.Module):
    """Layers that refine queries and their boxes.

    Positions of the queries come from their boxes, anew in each layer. The owner sets ``bbox_embed``, one head of
    boxes for each layer; without it boxes stay as they are.

    Args:
        decoder_layer: the first layer; the others are copies.
        num_layers: number of layers.
        norm: applied to what is returned of each layer.
        return_intermediate: must be True.
        d_model: channels.
        query_dim: numbers of a reference: 4 for boxes, 2 for points.
        modulate_hw_attn: unused; deformable attention has no weights of width and height.
        num_feature_levels: unused; the valid ratios tell it.
        deformable_decoder: must be True.
        decoder_query_perturber: called with the boxes before each layer in training, if given.
        dec_layer_number: must be None.
        rm_dec_query_scale: must be True.
        dec_layer_share: let all layers be the same one.
        dec_layer_dropout_prob: must be None.
    """

    bbox_embed: nn.ModuleList | None

    def __init__(
        self,
        decoder_layer: nn.Module,
        num_layers: int,
        norm: nn.Module | None = None,
        return_intermediate: bool = False,
        d_model: int = 256,
        query_dim: int = 4,
        modulate_hw_attn: bool = True,
        num_feature_levels: int = 1,
        deformable_decoder: bool = True,
        decoder_query_perturber: Callable[[Tensor], Tensor] | None = None,
        dec_layer_number: list[int] | None = None,
        rm_dec_query_scale: bool = True,
        dec_layer_share: bool = False,
        dec_layer_dropout_prob: list[float] | None = None,
    ) -> None:
        super().__init__()
        wanted = {
            "return_intermediate": (return_intermediate, True),
            "deformable_decoder": (deformable_decoder, True),
            "rm_dec_query_scale": (rm_dec_query_scale, True),
            "dec_layer_number": (dec_layer_number, None),
            "dec_layer_dropout_prob": (dec_layer_dropout_prob, None),
        }
        for name, (got, only) in wanted.items():
            if got != only:
                raise BadValue(f"{name} must be {only}, got {got}")
        if query_dim not in (2, 4):
            raise BadValue(f"query_dim must be 2 or 4, got {query_dim}")
        first = copy.deepcopy(decoder_layer)
        self.layers = nn.ModuleList(
            first if dec_layer_share else copy.deepcopy(decoder_layer) for _ in range(num_layers)
        )
        self.num_layers = num_layers
        self.norm = norm
        self.d_model = d_model
        self.ref_point_head = MLP(query_dim // 2 * d_model, d_model, d_model, 2)
        self.query_perturber = decoder_query_perturber
        self.bbox_embed = None
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
        for module in self.modules():
            if isinstance(module, MSDeformAttn):
                module._reset_parameters()

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        refpoints_unsigmoid: Tensor | None = None,
        level_start_index: Tensor | None = None,
        spatial_shapes: SpatialShapes | None = None,
        valid_ratios: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Refine queries and boxes.

        Args:
            tgt: [Q, N, C] queries.
            memory: [S, N, C] pixels of all levels.
            tgt_mask: bool [Q, Q]; True hides a query (column) from another (row).
            memory_mask: must be None.
            tgt_key_padding_mask: [N, Q] queries that the others do not see.
            memory_key_padding_mask: [N, S]; True marks padding.
            pos: unused.
            refpoints_unsigmoid: [Q, N, 4] log-odds of boxes (centre, size) in [0, 1] of the padded images.
            level_start_index: unused, since the shapes tell it.
            spatial_shapes: (height, width) of the L levels.
            valid_ratios: [N, L, 2] shares of the levels that are not padding.

        Returns:
            * for each layer the queries after it, [N, Q, C];
            * the boxes before the first layer and after each, [N, Q, 4] in [0, 1], without gradients between layers.
        """
        if refpoints_unsigmoid is None or valid_ratios is None:
            raise BadValue("the decoder needs refpoints_unsigmoid and valid_ratios")
        references = refpoints_unsigmoid.sigmoid()
        queries, boxes = [], [references.transpose(0, 1)]
        ratios = torch.cat([valid_ratios] * (references.shape[-1] // 2), -1)
        for i, layer in enumerate(self.layers):
            if self.training and self.query_perturber is not None:
                references = self.query_perturber(references)
            on_levels = references[:, :, None] * ratios[None]  # [Q, N, L, 4]
            encoded = sine_encoding_of_boxes(on_levels[:, :, 0], self.d_model // 2)
            tgt = layer(
                tgt,
                tgt_query_pos=self.ref_point_head(encoded),
                tgt_key_padding_mask=tgt_key_padding_mask,
                tgt_reference_points=on_levels,
                memory=memory,
                memory_key_padding_mask=memory_key_padding_mask,
                memory_spatial_shapes=spatial_shapes,
                self_attn_mask=tgt_mask,
                cross_attn_mask=memory_mask,
            )
            if self.bbox_embed is not None:
                references = refine_boxes(self.bbox_embed[i](tgt), references).detach()
            boxes.append(references.transpose(0, 1))
            queries.append((tgt if self.norm is None else self.norm(tgt)).transpose(0, 1))
        return queries, boxes
