"""Sine position encodings of maps and boxes.

References: End-to-End Object Detection with Transformers, https://arxiv.org/abs/2005.12872; for boxes DAB-DETR,
https://arxiv.org/abs/2201.12329
"""

import math

import torch
from torch import Tensor, nn

from detectron2.utils.errors import BadValue

__all__ = ["PositionEmbeddingSine", "sine_encoding", "sine_encoding_of_boxes", "sine_encoding_of_map"]


def sine_encoding(positions: Tensor, num_feats: int, temperature: float = 10000) -> Tensor:
    """Encode numbers as alternating sines and cosines of increasing wavelengths.

    Args:
        positions: any shape; angles in radians at the shortest wavelength.
        num_feats: size of the encoding of each number, F.
        temperature: ratio of the longest wavelength to the shortest.

    Returns:
        [..., F]; entry i is the sine (i even) or cosine (i odd) of ``position / temperature ** (2 * (i // 2) / F)``.
    """
    index = torch.arange(num_feats, device=positions.device)
    pair = torch.div(index, 2, rounding_mode="floor")
    angles = positions[..., None] / temperature ** (2 * pair / num_feats)
    return torch.where(index % 2 == 0, angles.sin(), angles.cos())


def sine_encoding_of_boxes(positions: Tensor, num_feats: int = 128, temperature: float = 10000) -> Tensor:
    """Encode each coordinate of points or boxes separately.

    Args:
        positions: [..., K] coordinates in [0, 1]: (x, y) or (center x, center y, width, height).
        num_feats: size of the encoding of each coordinate, F.
        temperature: see :func:`sine_encoding`.

    Returns:
        [..., K * F], in the order y, x, width, height.
    """
    features = sine_encoding(positions * (2 * math.pi), num_feats, temperature)  # [..., K, F]
    return torch.cat([features[..., 1, :], features[..., 0, :], features[..., 2:, :].flatten(-2)], -1)


def sine_encoding_of_map(
    hidden: Tensor,
    num_feats: int,
    temperature: float = 10000,
    normalize: bool = False,
    scale: float = 2 * math.pi,
    eps: float = 1e-6,
    offset: float = 0.0,
) -> Tensor:
    """Encode the rows and columns of maps, counted from 1 over the pixels that are not padding.

    Args:
        hidden: [N, H, W]; True marks padding, which is not counted.
        num_feats: size of the encodings of y and of x, F.
        temperature: see :func:`sine_encoding`.
        normalize: divide counts by the last one of the row or column, so that all maps span (0, ``scale``].
        scale: largest normalised position.
        eps: added to the divisor.
        offset: added to counts before they are normalised; -0.5 = centers of pixels.

    Returns:
        [N, 2 * F, H, W]: y, then x.
    """
    seen = ~hidden
    encoded = []
    for axis in (1, 2):
        count = seen.cumsum(axis, dtype=torch.float32)
        if normalize:
            last = count[:, -1:] if axis == 1 else count[:, :, -1:]
            count = (count + offset) / (last + eps) * scale
        encoded.append(sine_encoding(count, num_feats, temperature))
    return torch.cat(encoded, -1).permute(0, 3, 1, 2)


class PositionEmbeddingSine(nn.Module):
    """The sine position encoding of a feature map.

    Args:
        num_pos_feats: size of the encodings of y and of x.
        temperature: ratio of the longest wavelength to the shortest.
        normalize: whether maps of all sizes span the same range.
        scale: this range, by default 2π; only with ``normalize``.
    """

    def __init__(
        self,
        num_pos_feats: int = 64,
        temperature: float = 10000,
        normalize: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        if scale is not None and not normalize:
            raise BadValue("scale needs normalize=True, got normalize=False")
        self.num_pos_feats = num_pos_feats
        self.temperature = temperature
        self.normalize = normalize
        self.scale = 2 * math.pi if scale is None else scale

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode the positions of a feature map.

        Args:
            x: [N, C, H, W] features; only their size and device matter.
            mask: [N, H, W]; True marks padding. None = no padding.

        Returns:
            [N, 2 * num_pos_feats, H, W] in float32.
        """
        if mask is None:
            mask = torch.zeros(x.shape[0], x.shape[2], x.shape[3], dtype=torch.bool, device=x.device)
        return sine_encoding_of_map(mask, self.num_pos_feats, self.temperature, self.normalize, self.scale)

    def extra_repr(self) -> str:
        return (
            f"num_pos_feats={self.num_pos_feats}, temperature={self.temperature}, "
            f"normalize={self.normalize}, scale={self.scale:.4g}"
        )
