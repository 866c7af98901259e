"""Blocks that transformer layers are made of: feed-forward networks, attention, layers by their order of steps.

Reference: detrex, https://arxiv.org/abs/2306.07265
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from detectron2.layers import MSDeformAttn
from detectron2.layers.deformable_attention import SpatialShapes
from detectron2.utils.errors import BadValue

__all__ = [
    "FFN",
    "BaseTransformerLayer",
    "MultiScaleDeformableAttention",
    "MultiheadAttention",
    "TransformerLayerSequence",
]


class FFN(nn.Module):
    """Linear layers with an activation and dropout between them, added to the input.

    Args:
        embed_dim: channels of the input.
        feedforward_dim: channels between layers.
        output_dim: channels of the output; ``embed_dim`` by default.
        num_fcs: number of linear layers, at least 2.
        activation: applied after all layers but the last.
        ffn_drop: rate of dropout.
        fc_bias: let layers have biases.
        add_identity: add the input to the output.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        feedforward_dim: int = 1024,
        output_dim: int | None = None,
        num_fcs: int = 2,
        activation: nn.Module = nn.ReLU(),  # noqa: B008
        ffn_drop: float = 0.0,
        fc_bias: bool = True,
        add_identity: bool = True,
    ) -> None:
        super().__init__()
        if num_fcs < 2:
            raise BadValue(f"num_fcs must be at least 2, got {num_fcs}")
        self.embed_dim = embed_dim
        self.add_identity = add_identity
        layers: list[nn.Module] = []
        size = embed_dim
        for _ in range(num_fcs - 1):
            linear = nn.Linear(size, feedforward_dim, bias=fc_bias)
            layers.append(nn.Sequential(linear, activation, nn.Dropout(ffn_drop)))
            size = feedforward_dim
        layers.append(nn.Linear(size, output_dim or embed_dim, bias=fc_bias))
        layers.append(nn.Dropout(ffn_drop))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """Transform [..., embed_dim]; add ``identity`` in place of the input, if given."""
        out: Tensor = self.layers(x)
        if not self.add_identity:
            return out
        return out + (x if identity is None else identity)


class MultiheadAttention(nn.Module):
    """Dot-product attention with positions added to queries and keys, and a residual sum.

    Args:
        embed_dim: channels.
        num_heads: heads.
        attn_drop: rate of dropout of attention weights.
        proj_drop: rate of dropout of the result.
        batch_first: tensors are [N, length, C] rather than [length, N, C].
        kwargs: further arguments of ``torch.nn.MultiheadAttention``.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        batch_first: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.batch_first = batch_first
        self.attn = nn.MultiheadAttention(
            embed_dim, num_heads, dropout=attn_drop, batch_first=batch_first, **kwargs
        )
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend.

        Args:
            query: [N, Q, C] with ``batch_first``.
            key: [N, S, C]; the queries by default.
            value: [N, S, C]; the keys by default.
            identity: added to the result; the queries by default.
            query_pos: added to the queries.
            key_pos: added to the keys; ``query_pos`` by default, if it has the shape of the keys.
            attn_mask: [Q, S] or [N * heads, Q, S]; True hides a key from a query.
            key_padding_mask: [N, S]; True hides a key from all queries.
            kwargs: ignored, so that all kinds of attention take the same arguments.

        Returns:
            the shape of ``query``.
        """
        identity = query if identity is None else identity
        key = query if key is None else key
        value = key if value is None else value
        if key_pos is None and query_pos is not None and query_pos.shape == key.shape:
            key_pos = query_pos
        query = query if query_pos is None else query + query_pos
        key = key if key_pos is None else key + key_pos
        attended, _ = self.attn(
            query, key, value, attn_mask=attn_mask, key_padding_mask=key_padding_mask, need_weights=False
        )
        return identity + self.proj_drop(attended)


class MultiScaleDeformableAttention(MSDeformAttn):
    """Deformable attention with positions added to the queries, and a residual sum.

    Args:
        embed_dim: channels.
        num_heads: heads.
        num_levels: levels of the pyramid.
        num_points: points of each head on each level.
        img2col_step: unused.
        dropout: rate of dropout of the result.
        batch_first: tensors are [N, length, C] rather than [length, N, C].
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        img2col_step: int = 64,
        dropout: float = 0.1,
        batch_first: bool = False,
    ) -> None:
        super().__init__(embed_dim, num_levels, num_heads, num_points)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        self.dropout = nn.Dropout(dropout)
        self.batch_first = batch_first

    def init_weights(self) -> None:
        """Let heads begin with equal weights in directions of their own."""
        self._reset_parameters()

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: SpatialShapes | None = None,
        level_start_index: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend.

        Args:
            query: [N, Q, C] with ``batch_first``.
            key: unused: attention weights come from the queries alone.
            value: [N, S, C], the pixels of all levels; the queries by default.
            identity: added to the result; the queries by default.
            query_pos: added to the queries.
            key_padding_mask: [N, S]; values of pixels that are True count as zero.
            reference_points: [N, Q, L, 2] points or [N, Q, L, 4] boxes.
            spatial_shapes: (height, width) of the L levels.
            level_start_index: unused, since the shapes tell it.
            kwargs: ignored, so that all kinds of attention take the same arguments.

        Returns:
            the shape of ``query``.
        """
        if reference_points is None or spatial_shapes is None:
            raise BadValue("deformable attention needs reference_points and spatial_shapes")
        identity = query if identity is None else identity
        value = query if value is None else value
        query = query if query_pos is None else query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        out = super().forward(query, reference_points, value, spatial_shapes, None, key_padding_mask)
        return self.dropout(out if self.batch_first else out.transpose(0, 1)) + identity


_STEPS = ("self_attn", "norm", "cross_attn", "ffn")


def _copies(modules: nn.Module | Sequence[nn.Module], count: int, what: str) -> nn.ModuleList:
    if isinstance(modules, nn.Module):
        return nn.ModuleList(copy.deepcopy(modules) for _ in range(count))
    if len(modules) != count:
        raise BadValue(f"operation_order has {count} steps {what!r}, but there are {len(modules)} modules")
    return nn.ModuleList(modules)


class BaseTransformerLayer(nn.Module):
    """Attention, norms and feed-forward networks in an order of one's own.

    Args:
        attn: attention of the steps "self_attn" and "cross_attn": a list in their order, or one module to copy.
        ffn: feed-forward network, to copy for each step "ffn".
        norm: norm, to copy for each step "norm".
        operation_order: steps. If "norm" is the first, residual sums take what comes before the norm.
    """

    def __init__(
        self,
        attn: nn.Module | Sequence[nn.Module],
        ffn: nn.Module,
        norm: nn.Module,
        operation_order: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        order = tuple(operation_order or ())
        if not order or set(order) - set(_STEPS):
            raise BadValue(f"operation_order must consist of {', '.join(_STEPS)}; got {operation_order}")
        self.operation_order = order
        self.pre_norm = order[0] == "norm"
        self.num_attn = order.count("self_attn") + order.count("cross_attn")
        self.attentions = _copies(attn, self.num_attn, "self_attn and cross_attn")
        self.embed_dim = self.attentions[0].embed_dim
        self.ffns = _copies(ffn, order.count("ffn"), "ffn")
        self.norms = _copies(norm, order.count("norm"), "norm")

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_masks: Tensor | Sequence[Tensor | None] | None = None,
        query_key_padding_mask: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Apply the steps in turn.

        Args:
            query: [N, Q, C].
            key: keys of cross-attention.
            value: values of cross-attention.
            query_pos: positions of the queries.
            key_pos: positions of the keys.
            attn_masks: one for each attention, or one for all; True hides a key from a query.
            query_key_padding_mask: [N, Q] queries that self-attention does not see.
            key_padding_mask: [N, S] keys that cross-attention does not see.
            kwargs: handed to attention, such as the reference points of deformable attention.

        Returns:
            [N, Q, C].
        """
        if attn_masks is None or isinstance(attn_masks, Tensor):
            attn_masks = [attn_masks] * self.num_attn
        attention, norms, ffns = zip(self.attentions, attn_masks), iter(self.norms), iter(self.ffns)
        identity = query
        for step in self.operation_order:
            if step == "norm":
                query = next(norms)(query)
                continue
            residual = identity if self.pre_norm else None
            if step == "ffn":
                query = next(ffns)(query, residual)
            else:
                attend, mask = next(attention)
                own = step == "self_attn"
                query = attend(
                    query,
                    query if own else key,
                    query if own else value,
                    residual,
                    query_pos=query_pos,
                    key_pos=query_pos if own else key_pos,
                    attn_mask=mask,
                    key_padding_mask=query_key_padding_mask if own else key_padding_mask,
                    **kwargs,
                )
            identity = query
        return query


class TransformerLayerSequence(nn.Module):
    """Layers of an encoder or decoder; subclasses say how they follow each other.

    Args:
        transformer_layers: a layer to copy, or all of them.
        num_layers: number of layers.
    """

    use_checkpoint = False
    """Compute layers again in the backward pass, to save memory."""

    def __init__(
        self,
        transformer_layers: nn.Module | Sequence[nn.Module] | None = None,
        num_layers: int | None = None,
    ) -> None:
        super().__init__()
        if transformer_layers is None or num_layers is None:
            raise BadValue("transformer_layers and num_layers must be given")
        self.num_layers = num_layers
        self.layers = _copies(transformer_layers, num_layers, "layer")

    def forward(self) -> Any:
        """Apply the layers; for subclasses to define."""
        raise NotImplementedError("subclasses of TransformerLayerSequence define forward")

    def _apply_layer(self, index: int, *args: Any, **kwargs: Any) -> Tensor:
        layer = self.layers[index]
        if self.use_checkpoint and self.training and torch.is_grad_enabled():
            out: Tensor = checkpoint(layer, *args, use_reentrant=False, **kwargs)
            return out
        return layer(*args, **kwargs)
