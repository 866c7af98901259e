"""ROIAlign with a fixed number of samples, for runtimes that know no other."""

from __future__ import annotations

import copy

from torch import nn

from detectron2.layers import ROIAlign, ROIAlignRotated
from detectron2.utils.errors import BadValue

__all__ = ["with_sampling_ratio"]


def with_sampling_ratio(model: nn.Module, ratio: int) -> nn.Module:
    """Return a copy of a model whose ROIAlign takes a fixed number of samples per bin.

    By default the number grows with the box, which TensorRT and Core ML lack. The results differ a little from those of
    the model as it was trained.

    Args:
        model: with ROIAlign.
        ratio: samples per bin in each direction, 1 or more; 2 is usual.

    Raises:
        ValueError: ``ratio`` is below 1, or the model has no ROIAlign.
    """
    if ratio < 1:
        raise BadValue(f"the sampling ratio must be 1 or more, got {ratio}")
    changed = copy.deepcopy(model)
    aligned = [part for part in changed.modules() if isinstance(part, (ROIAlign, ROIAlignRotated))]
    if not aligned:
        raise BadValue(f"{type(model).__name__} has no ROIAlign: leave the sampling ratio out")
    for part in aligned:
        part.sampling_ratio = ratio
    return changed
