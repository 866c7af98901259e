"""Which classes of a panoptic data set are things."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["are_things"]

_COCO_THINGS = 80


def are_things(labels: Tensor, thing_classes: Sequence[int] | None) -> Tensor:
    """Tell things from stuff.

    Args:
        labels: [T] classes.
        thing_classes: the classes that are things; None for those of COCO, below 80.

    Returns:
        bool [T].
    """
    if thing_classes is None:
        return labels < _COCO_THINGS
    return torch.isin(labels, torch.tensor(list(thing_classes), dtype=labels.dtype, device=labels.device))
