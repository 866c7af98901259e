"""Pairs of boxes in successive frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectron2.structures import Instances
from detectron2.utils.errors import BadValue

__all__ = ["Instances", "create_prediction_pairs"]


def create_prediction_pairs(
    instances: Instances, prev_instances: Instances, iou_all: object, threshold: float = 0.5
) -> list[dict[str, Any]]:
    """Return the pairs of instances that overlap enough to be the same object.

    Args:
        instances: N instances of this frame.
        prev_instances: M instances of the previous frame, with ``ID`` and ``ID_period``.
        iou_all: ``[N, M]`` IoU.
        threshold: smallest IoU of a pair.

    Returns:
        Dicts with ``idx`` and ``prev_idx`` (indices), ``prev_id``, ``IoU`` and ``prev_period``, ordered by ``idx`` and
        ``prev_idx``.
    """
    iou = np.asarray(iou_all)
    if iou.shape != (len(instances), len(prev_instances)):
        raise BadValue(f"iou_all must be [{len(instances)}, {len(prev_instances)}], got {list(iou.shape)}")
    return [
        {
            "idx": int(i),
            "prev_idx": int(j),
            "prev_id": prev_instances.ID[j],
            "IoU": iou[i, j],
            "prev_period": prev_instances.ID_period[j],
        }
        for i, j in zip(*np.nonzero(iou >= threshold))
    ]
