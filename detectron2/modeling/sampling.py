"""Random sampling of training examples with a bounded fraction of foreground."""

from __future__ import annotations

import torch
from torch import Tensor

from detectron2.utils.reexports import passed_on

from ._selection import rows_of

__all__ = ["subsample_labels"]

__getattr__ = passed_on(__name__)


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Sample at most ``num_samples`` indices, at most ``num_samples * positive_fraction`` of them foreground.

    If there is too little foreground, background takes its place; if there is too little background, fewer than
    ``num_samples`` indices are returned.

    Args:
        labels: integers [N]; -1 = ignored, ``bg_label`` = background, all others = foreground.
        num_samples: how many to sample.
        positive_fraction: largest fraction of foreground, in [0, 1].
        bg_label: label of the background.

    Returns:
        Indices of the sampled foreground and background, two int64 vectors in random order.
    """
    is_background = labels == bg_label
    foreground, background = rows_of([(labels != -1) & ~is_background, is_background])
    num_fg = min(foreground.numel(), int(num_samples * positive_fraction))
    num_bg = min(background.numel(), num_samples - num_fg)
    return _draw(foreground, num_fg), _draw(background, num_bg)


def _draw(candidates: Tensor, count: int) -> Tensor:
    """Sample ``count`` elements of a vector without replacement."""
    return candidates[torch.randperm(candidates.numel(), device=candidates.device)[:count]]
