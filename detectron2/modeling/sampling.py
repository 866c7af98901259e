"""Random choice of training examples with a bounded share of foreground."""

from __future__ import annotations

import torch
from torch import Tensor

from detectron2.layers import nonzero_tuple

__all__ = ["subsample_labels"]


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Draw at most ``num_samples`` indices, of which at most ``num_samples * positive_fraction`` are foreground.

    Where foreground is scarce, background fills the places; where background is scarce, fewer than
    ``num_samples`` come back.

    Args:
        labels: integers [N]; -1 = ignored, ``bg_label`` = background, the rest = foreground.
        num_samples: how many to draw.
        positive_fraction: the largest share of foreground, in [0, 1].
        bg_label: the label that stands for background.

    Returns:
        Indices of the drawn foreground and of the drawn background, two int64 vectors in random order.
    """
    foreground = nonzero_tuple((labels != -1) & (labels != bg_label))[0]
    background = nonzero_tuple(labels == bg_label)[0]
    num_fg = min(foreground.numel(), int(num_samples * positive_fraction))
    num_bg = min(background.numel(), num_samples - num_fg)
    return _draw(foreground, num_fg), _draw(background, num_bg)


def _draw(candidates: Tensor, count: int) -> Tensor:
    """Draw ``count`` elements of a vector without replacement."""
    return candidates[torch.randperm(candidates.numel(), device=candidates.device)[:count]]
