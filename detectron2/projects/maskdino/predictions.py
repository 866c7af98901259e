"""Predictions of several layers in the form that criteria take, and boxes around predicted masks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detectron2.modeling.transformer import box_xyxy_to_cxcywh, masks_to_boxes

__all__ = ["as_outputs", "boxes_of_masks"]


def as_outputs(logits: Sequence[Any], boxes: Sequence[Any], masks: Sequence[Any]) -> dict[str, Any]:
    """Put the predictions of the layers, first to last, in the form that :class:`.SetCriterion` takes.

    Args:
        logits: for each layer [N, Q, classes].
        boxes: for each layer [N, Q, 4].
        masks: for each layer [N, Q, h, w], or None.
    """
    *earlier, last = (
        {"pred_logits": a, "pred_masks": c, "pred_boxes": b} for a, b, c in zip(logits, boxes, masks)
    )
    return {**last, "aux_outputs": earlier}


def boxes_of_masks(masks: Tensor, whole_pixels: bool) -> Tensor:
    """Boxes [N, Q, 4] (centre, size in [0, 1]) around mask logits [N, Q, h, w].

    Empty masks have boxes without size, in the corner where released weights have learnt to expect them: the near one
    with ``whole_pixels``, else the far one.

    Args:
        masks: the logits.
        whole_pixels: let boxes end behind the last pixel, rather than before it.
    """
    inside = masks.flatten(0, 1) > 0
    exists = inside.flatten(1).any(1)[:, None]
    near, far = masks_to_boxes(inside).split(2, 1)
    far = far + exists if whole_pixels else far
    height, width = masks.shape[-2:]
    x0, y0, x1, y1 = torch.cat([near, far], 1).unbind(-1)
    boxes = box_xyxy_to_cxcywh(torch.stack([x0 / width, y0 / height, x1 / width, y1 / height], -1))
    if not whole_pixels:
        boxes = torch.where(exists, boxes, boxes.new_tensor([1.0, 1.0, 0.0, 0.0]))
    return boxes.unflatten(0, masks.shape[:2])
