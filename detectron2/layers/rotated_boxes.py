"""Overlap of rotated boxes."""

from torch import Tensor

from .rotated.iou import rotated_iou

__all__ = ["pairwise_iou_rotated"]


def pairwise_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute the intersection over union of every pair of rotated boxes.

    Args:
        boxes1: [N, 5] of (x centre, y centre, width, height, angle in degrees counter-clockwise).
        boxes2: [M, 5].

    Returns:
        [N, M], in [0, 1].
    """
    return rotated_iou(boxes1, boxes2)
