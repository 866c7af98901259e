"""Rotary position embedding in two axes (EVA-02, section 2; Su et al., RoFormer, https://arxiv.org/abs/2104.09864)."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.utils.errors import BadValue

__all__ = ["VisionRotaryEmbedding", "VisionRotaryEmbeddingFast", "rotate_half"]


def rotate_half(x: Tensor) -> Tensor:
    """Replace each pair of neighbours (a, b) on the last axis by (-b, a)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((-b, a), dim=-1).flatten(-2)


def _frequencies(
    dim: int, custom: Tensor | None, kind: str, theta: float, max_freq: float, num_freqs: int
) -> Tensor:
    """Return the angular frequencies: [dim / 2] for "lang" and "pixel", [num_freqs] for "constant"."""
    if custom is not None:
        return custom
    if kind == "lang":
        return theta ** (-torch.arange(0, dim, 2).float() / dim)
    if kind == "pixel":
        return torch.linspace(1.0, max_freq / 2, dim // 2) * math.pi
    if kind == "constant":
        return torch.ones(num_freqs)
    raise BadValue(f"rotary embedding: freqs_for must be 'lang', 'pixel' or 'constant', got {kind!r}")


class VisionRotaryEmbedding(nn.Module):
    """Rotate queries or keys of a square map by angles proportional to row and column.

    A side of ``ft_seq_len`` positions spans the ``pt_seq_len`` of pretraining. The first half of the rotated channels
    encodes the row, the second the column.

    Args:
        dim: half the number of rotated channels.
        pt_seq_len: positions per side in pretraining.
        ft_seq_len: positions per side here; None = ``pt_seq_len``.
        custom_freqs: angular frequencies; None = computed from the arguments below.
        freqs_for: "lang" for ``theta ** (-2j / dim)``, "pixel" for steps up to ``max_freq / 2``, "constant" for ones.
        theta: base of "lang".
        max_freq: maximum frequency of "pixel".
        num_freqs: number of frequencies of "constant".

    Raises:
        ValueError: ``freqs_for`` is unknown.
    """

    freqs_cos: Tensor
    freqs_sin: Tensor

    def __init__(
        self,
        dim: int,
        pt_seq_len: int,
        ft_seq_len: int | None = None,
        custom_freqs: Tensor | None = None,
        freqs_for: str = "lang",
        theta: float = 10000,
        max_freq: float = 10,
        num_freqs: int = 1,
    ) -> None:
        super().__init__()
        side = ft_seq_len or pt_seq_len
        freqs = _frequencies(dim, custom_freqs, freqs_for, theta, max_freq, num_freqs)
        positions = torch.arange(side) / side * pt_seq_len
        angles = torch.outer(positions, freqs).repeat_interleave(2, dim=1)  # [side, d]
        table = torch.cat(
            [angles[:, None].expand(-1, side, -1), angles[None].expand(side, -1, -1)], dim=2
        )  # [side, side, 2 d]
        self.register_buffer("freqs_cos", self._shaped(table.cos()))
        self.register_buffer("freqs_sin", self._shaped(table.sin()))

    def _shaped(self, table: Tensor) -> Tensor:
        return table

    def forward(self, t: Tensor, start_index: int = 0) -> Tensor:
        """Rotate the channels of [..., side, side, C] from ``start_index`` on."""
        width = self.freqs_cos.shape[-1]
        if start_index + width > t.shape[-1]:
            raise BadValue(
                f"rotary embedding: {width} channels from {start_index} on do not fit into {t.shape[-1]}"
            )
        before, turned, after = t.tensor_split((start_index, start_index + width), dim=-1)
        turned = turned * self.freqs_cos + rotate_half(turned) * self.freqs_sin
        return torch.cat((before, turned, after), dim=-1)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Keep this module's tables if those of a checkpoint have another size: they hold nothing learned."""
        assert isinstance(state_dict, dict)
        for name in ("freqs_cos", "freqs_sin"):
            own = getattr(self, name)
            if prefix + name in state_dict and state_dict[prefix + name].shape != own.shape:
                state_dict[prefix + name] = own
        super()._load_from_state_dict(state_dict, prefix, *args)


class VisionRotaryEmbeddingFast(VisionRotaryEmbedding):
    """:class:`VisionRotaryEmbedding` for maps with all positions on one axis; rotates all channels.

    Args:
        dim: half the number of channels.
        pt_seq_len, ft_seq_len, custom_freqs, freqs_for, theta, max_freq, num_freqs: see
            :class:`VisionRotaryEmbedding`.
    """

    def __init__(
        self,
        dim: int,
        pt_seq_len: int = 16,
        ft_seq_len: int | None = None,
        custom_freqs: Tensor | None = None,
        freqs_for: str = "lang",
        theta: float = 10000,
        max_freq: float = 10,
        num_freqs: int = 1,
    ) -> None:
        super().__init__(dim, pt_seq_len, ft_seq_len, custom_freqs, freqs_for, theta, max_freq, num_freqs)

    def _shaped(self, table: Tensor) -> Tensor:
        return table.flatten(0, 1)

    def forward(self, t: Tensor) -> Tensor:  # type: ignore[override]
        """Rotate [..., side * side, C].

        Raises:
            ValueError: ``t`` has the wrong number of positions.
        """
        if t.shape[-2] != self.freqs_cos.shape[0]:
            raise BadValue(
                f"rotary embedding: got {t.shape[-2]} positions for a table of {self.freqs_cos.shape[0]}; images must "
                "be padded to squares of the backbone's img_size"
            )
        return t * self.freqs_cos + rotate_half(t) * self.freqs_sin
