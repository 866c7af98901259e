"""Layers of the transformer decoder: attention among queries, attention to pixels, a feed-forward network.

Q queries, S pixels, N images, C channels; queries and pixels are the first axis. Every layer adds its result to its
input; the norm follows the sum, or precedes the layer with ``normalize_before``.

Reference: Attention Is All You Need, https://arxiv.org/abs/1706.03762
"""

from torch import Tensor, nn

from detectron2.modeling.transformer import activation_function

__all__ = ["CrossAttentionLayer", "FFNLayer", "SelfAttentionLayer"]


class _Layer(nn.Module):
    """Common parts of the layers: norm, dropout and sum."""

    def __init__(self, d_model: int, dropout: float, normalize_before: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.normalize_before = normalize_before

    def with_pos_embed(self, tensor: Tensor, pos: Tensor | None) -> Tensor:
        """Add position embeddings, if given."""
        return tensor if pos is None else tensor + pos

    def _init_matrices(self) -> None:
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)


class SelfAttentionLayer(_Layer):
    """Attention of queries to each other.

    Args:
        d_model: channels.
        nhead: number of heads.
        dropout: dropout rate.
        activation: unused; there is no activation.
        normalize_before: apply the norm before the layer instead of after.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dropout: float = 0.0,
        activation: str = "relu",
        normalize_before: bool = False,
    ) -> None:
        super().__init__(d_model, dropout, normalize_before)
        self.self_attn = nn.MultiheadAttention(d_model, nhead, dropout=dropout)
        self._init_matrices()

    def _attend(
        self, x: Tensor, mask: Tensor | None, padding_mask: Tensor | None, query_pos: Tensor | None
    ) -> Tensor:
        placed = self.with_pos_embed(x, query_pos)
        found, _ = self.self_attn(
            placed, placed, x, attn_mask=mask, key_padding_mask=padding_mask, need_weights=False
        )
        return self.dropout(found)

    def forward_post(
        self,
        tgt: Tensor,
        tgt_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Attend, add, normalise."""
        return self.norm(tgt + self._attend(tgt, tgt_mask, tgt_key_padding_mask, query_pos))

    def forward_pre(
        self,
        tgt: Tensor,
        tgt_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Normalise, attend, add."""
        return tgt + self._attend(self.norm(tgt), tgt_mask, tgt_key_padding_mask, query_pos)

    def forward(
        self,
        tgt: Tensor,
        tgt_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Update queries.

        Args:
            tgt: [Q, N, C] queries.
            tgt_mask: bool [Q, Q] or [N * heads, Q, Q]; True masks a pair.
            tgt_key_padding_mask: bool [N, Q]; True masks a query for the others.
            query_pos: [Q, N, C] position embeddings of the queries.

        Returns:
            [Q, N, C].
        """
        run = self.forward_pre if self.normalize_before else self.forward_post
        return run(tgt, tgt_mask, tgt_key_padding_mask, query_pos)


class CrossAttentionLayer(_Layer):
    """Attention of queries to pixels.

    Args:
        d_model: channels.
        nhead: number of heads.
        dropout: dropout rate.
        activation: unused; there is no activation.
        normalize_before: apply the norm before the layer instead of after.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dropout: float = 0.0,
        activation: str = "relu",
        normalize_before: bool = False,
    ) -> None:
        super().__init__(d_model, dropout, normalize_before)
        self.multihead_attn = nn.MultiheadAttention(d_model, nhead, dropout=dropout)
        self._init_matrices()

    def _attend(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        padding_mask: Tensor | None,
        pos: Tensor | None,
        query_pos: Tensor | None,
    ) -> Tensor:
        found, _ = self.multihead_attn(
            self.with_pos_embed(x, query_pos),
            self.with_pos_embed(memory, pos),
            memory,
            attn_mask=mask,
            key_padding_mask=padding_mask,
            need_weights=False,
        )
        return self.dropout(found)

    def forward_post(
        self,
        tgt: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Attend, add, normalise."""
        found = self._attend(tgt, memory, memory_mask, memory_key_padding_mask, pos, query_pos)
        return self.norm(tgt + found)

    def forward_pre(
        self,
        tgt: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Normalise, attend, add."""
        queries = self.norm(tgt)
        return tgt + self._attend(queries, memory, memory_mask, memory_key_padding_mask, pos, query_pos)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Update queries.

        Args:
            tgt: [Q, N, C] queries.
            memory: [S, N, C] pixels.
            memory_mask: bool [Q, S] or [N * heads, Q, S]; True masks a pair.
            memory_key_padding_mask: bool [N, S]; True masks a pixel.
            pos: [S, N, C] position embeddings of the pixels.
            query_pos: [Q, N, C] position embeddings of the queries.

        Returns:
            [Q, N, C].
        """
        run = self.forward_pre if self.normalize_before else self.forward_post
        return run(tgt, memory, memory_mask, memory_key_padding_mask, pos, query_pos)


class FFNLayer(_Layer):
    """Two linear layers with an activation between.

    Args:
        d_model: channels.
        dim_feedforward: channels between the layers.
        dropout: dropout rate.
        activation: "relu" or "gelu".
        normalize_before: apply the norm before the layer instead of after.
    """

    def __init__(
        self,
        d_model: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.0,
        activation: str = "relu",
        normalize_before: bool = False,
    ) -> None:
        super().__init__(d_model, dropout, normalize_before)
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.activation = activation_function(activation)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self._init_matrices()

    def _transform(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))

    def forward_post(self, tgt: Tensor) -> Tensor:
        """Transform, add, normalise."""
        return self.norm(tgt + self._transform(tgt))

    def forward_pre(self, tgt: Tensor) -> Tensor:
        """Normalise, transform, add."""
        return tgt + self._transform(self.norm(tgt))

    def forward(self, tgt: Tensor) -> Tensor:
        """Update queries [..., C]."""
        return self.forward_pre(tgt) if self.normalize_before else self.forward_post(tgt)
