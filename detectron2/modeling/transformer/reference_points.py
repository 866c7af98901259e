"""Reference points of deformable attention, and the inverse sigmoid.

Reference: Deformable DETR, https://arxiv.org/abs/2010.04159
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["inverse_sigmoid", "pixel_reference_points", "refine_boxes", "valid_ratio"]


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Compute the logits of probabilities ``x``, clamped such that ``x`` and ``1 - x`` are at least ``eps``."""
    return (x.clamp(eps, 1.0) / (1 - x).clamp(eps, 1.0)).log()


def refine_boxes(deltas: Tensor, reference: Tensor, eps: float = 1e-5) -> Tensor:
    """Move boxes: add offsets to the log-odds of references.

    Args:
        deltas: [..., 4] offsets.
        reference: [..., 4] boxes or [..., 2] points in [0, 1]; points have no size, so the offset alone gives it.
        eps: see :func:`inverse_sigmoid`.

    Returns:
        [..., 4] boxes in [0, 1].
    """
    odds = inverse_sigmoid(reference, eps)
    if odds.shape[-1] == 2:
        odds = torch.cat([odds, torch.zeros_like(odds)], -1)
    return (deltas + odds).sigmoid()


def valid_ratio(hidden: Tensor) -> Tensor:
    """Compute the fractions of the width and height of maps that are not padding.

    Args:
        hidden: [N, H, W]; True marks padding, which is below and to the right.

    Returns:
        [N, 2] (fraction of the width, fraction of the height).
    """
    seen = (~hidden).float()
    return torch.stack([seen[:, 0].mean(1), seen[:, :, 0].mean(1)], -1)


def pixel_reference_points(shapes: Sequence[tuple[int, int]], valid_ratios: Tensor) -> Tensor:
    """Compute the centers of all pixels of all levels.

    Args:
        shapes: (height, width) of L levels, S pixels in total.
        valid_ratios: [N, L, 2], see :func:`valid_ratio`.

    Returns:
        [N, S, L, 2] points (x, y) relative to each level's padded map; 1 = the end of the padding.
    """
    device = valid_ratios.device
    levels = []
    for i, (h, w) in enumerate(shapes):
        y, x = torch.meshgrid(
            torch.arange(h, device=device) + 0.5, torch.arange(w, device=device) + 0.5, indexing="ij"
        )
        inside = valid_ratios[:, None, i]  # [N, 1, 2]
        levels.append(
            torch.stack([x.flatten() / (inside[..., 0] * w), y.flatten() / (inside[..., 1] * h)], -1)
        )
    return torch.cat(levels, 1)[:, :, None] * valid_ratios[:, None]
