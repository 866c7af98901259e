"""Random sampling of training examples with a bounded fraction of foreground."""

from __future__ import annotations

import torch
from torch import Tensor

from detectron2.utils.reexports import passed_on

from ._selection import rows_of

__all__ = ["sample_rows", "subsample_labels"]

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


def sample_rows(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Sample as :func:`subsample_labels` from each of N images, with the same distribution and with a fixed count.

    The best of random keys are drawn, so that no count is read from the device.

    Args:
        labels: integers [N, R]; -1 = ignored, ``bg_label`` = background, all others = foreground.
        num_samples: how many to sample from each image.
        positive_fraction: largest fraction of foreground, in [0, 1].
        bg_label: label of the background.

    Returns:
        int64 [N, k], k <= ``num_samples``, and bool [N, k]: which rows were drawn; the others are of no use.
        Foreground comes first, so that it lies in the first ``num_samples * positive_fraction`` rows.
    """
    size = labels.shape[1]
    keys = torch.rand(labels.shape, device=labels.device)
    is_background = labels == bg_label
    is_foreground = (labels != -1) & ~is_background
    most_fg = min(int(num_samples * positive_fraction), size)
    fg_keys, fg_rows = torch.where(is_foreground, keys, -1.0).topk(most_fg)
    bg_keys, bg_rows = torch.where(is_background, keys, -1.0).topk(min(num_samples, size))
    fg = fg_keys >= 0
    place = torch.arange(bg_rows.shape[1], device=labels.device)
    bg = (bg_keys >= 0) & (place < num_samples - fg.sum(dim=1, keepdim=True))
    drawn, rows = torch.cat((fg, bg), dim=1), torch.cat((fg_rows, bg_rows), dim=1)
    order = drawn.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :num_samples]
    return rows.gather(1, order), drawn.gather(1, order)
