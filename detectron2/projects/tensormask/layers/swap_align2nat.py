"""From aligned to natural masks, trading resolution of the map for resolution of the masks.

TensorMask (Chen et al. 2019, https://arxiv.org/abs/1903.12174), sections 3.3 to 3.5. A tensor [V, U, H, W] holds a
V x U mask at each of H x W places. In the natural representation entry (v, u, y, x) belongs to the window *centred* at
(y, x); in the aligned one it describes the pixel *at* (y, x), as part of a window centred elsewhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SwapAlign2Nat", "swap_align2nat"]


def swap_align2nat(X: Tensor, lambda_val: int, pad_val: float = -6.0) -> Tensor:
    """Turn aligned masks into natural ones with a finer mask resolution on a coarser map.

    The natural entry (v', u', y', x') is the aligned tensor at mask coordinates ``(v' + 0.5) / lambda - 0.5`` (and
    so for u') and at the place ``lambda y' + v' + 0.5 - lambda V / 2`` (and so for x): bilinear in all four, with
    ``pad_val`` beyond every border.

    Args:
        X: aligned masks [N, V * V, H, W], the V x V entries of a mask along the channels.
        lambda_val: the factor, 1 or more.
        pad_val: value beyond the borders; as a logit, -6 is certain background.

    Returns:
        [N, (lambda V)², ceil(H / lambda), ceil(W / lambda)].

    Raises:
        ValueError: the channels are not a square number, or ``lambda_val`` is below 1.
    """
    if X.dim() != 4:
        raise ValueError(f"SwapAlign2Nat takes [N, V * V, H, W], got {tuple(X.shape)}")
    side = math.isqrt(X.shape[1])
    if side * side != X.shape[1] or side == 0:
        raise ValueError(f"the channels of SwapAlign2Nat must be V * V for some V, got {X.shape[1]}")
    if lambda_val < 1 or lambda_val != int(lambda_val):
        raise ValueError(f"lambda_val must be a whole number of 1 or more, got {lambda_val}")
    scale = int(lambda_val)
    n, _, height, width = X.shape
    # From here on the padding is zero; the operator is linear and the same for rows and columns.
    x = (X - pad_val).reshape(n, side, side, height, width).transpose(2, 3)  # [N, V, H, U, W]
    x = _along_one_axis(x.flatten(3), scale)  # [N, lambda V, H', U * W]
    fine, coarse = x.shape[1:3]
    x = _along_one_axis(
        x.reshape(n * fine * coarse, side, width, 1), scale
    )  # [N * lambda V * H', lambda U, W', 1]
    x = x.reshape(n, fine, coarse, fine, x.shape[2]).transpose(2, 3)
    return x.reshape(n, fine * fine, coarse, x.shape[4]) + pad_val


def _along_one_axis(x: Tensor, scale: int) -> Tensor:
    """Apply the operator to rows alone: aligned [B, V, H, M] to natural [B, scale * V, ceil(H / scale), M].

    Places fall on the grid if ``scale * V`` is odd, and otherwise halfway between two rows, which depend on v' and y'.
    """
    side, length = x.shape[1], x.shape[2]
    fine, coarse = scale * side, (length + scale - 1) // scale
    if fine % 2 == 0:  # row i becomes the mean of rows i - 1 and i, for i from 0 to H
        x = 0.5 * (F.pad(x, (0, 0, 1, 0)) + F.pad(x, (0, 0, 0, 1)))
    rows = x.shape[2]
    v = torch.arange(fine, device=x.device)
    y = torch.arange(coarse, device=x.device)
    place = v[:, None] - (fine - 1) // 2 + scale * y  # [V', H']
    inside = (place >= 0) & (place < rows)
    place = place.clamp(0, rows - 1)
    # mask coordinate (v + 0.5) / scale - 0.5: integer part, and fraction in [0, 1)
    doubled = 2 * v + 1 - scale
    low = torch.div(doubled, 2 * scale, rounding_mode="floor")
    fraction = (doubled - low * 2 * scale).to(x.dtype) / (2 * scale)
    flat = x.flatten(1, 2)  # [B, V * H, M]

    def tap(at: Tensor, weight: Tensor) -> Tensor:
        weights = weight[:, None] * (inside & ((at >= 0) & (at < side))[:, None])  # [V', H']
        index = at.clamp(0, side - 1)[:, None] * rows + place
        return flat.index_select(1, index.flatten()) * weights.flatten()[:, None]

    out = tap(low, 1 - fraction)
    if scale > 1:  # else every fraction is zero
        out = out + tap(low + 1, fraction)
    return out.reshape(x.shape[0], fine, coarse, x.shape[3])


class SwapAlign2Nat(nn.Module):
    """:func:`swap_align2nat` as a module.

    Args:
        lambda_val: the factor by which masks become finer and places coarser, 1 or more.
        pad_val: value beyond the borders of map and masks.
    """

    def __init__(self, lambda_val: int, pad_val: float = -6.0) -> None:
        super().__init__()
        self.lambda_val = lambda_val
        self.pad_val = pad_val

    def forward(self, X: Tensor) -> Tensor:
        """Map [N, V * V, H, W] to [N, (lambda V)², ceil(H / lambda), ceil(W / lambda)]."""
        return swap_align2nat(X, self.lambda_val, self.pad_val)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lambda_val={self.lambda_val}, pad_val={self.pad_val})"
