"""Conversion between boxes given by center and size and boxes given by corners, and their overlap."""

import torch
from torch import Tensor

from detectron2.utils.errors import BadValue

__all__ = ["box_cxcywh_to_xyxy", "box_iou", "box_xyxy_to_cxcywh", "generalized_box_iou", "masks_to_boxes"]


def box_cxcywh_to_xyxy(x: Tensor) -> Tensor:
    """Convert boxes [..., 4] from center and size to corners."""
    centre, size = x.split(2, -1)
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def box_xyxy_to_cxcywh(x: Tensor) -> Tensor:
    """Convert boxes [..., 4] from corners to center and size."""
    near, far = x.split(2, -1)
    return torch.cat([(near + far) / 2, far - near], -1)


def box_iou(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the intersection over union, and the area of the union, of every pair of boxes.

    Args:
        boxes1: [N, 4] corners.
        boxes2: [M, 4] corners.

    Returns:
        [N, M] each.
    """
    near = torch.maximum(boxes1[:, None, :2], boxes2[:, :2])
    far = torch.minimum(boxes1[:, None, 2:], boxes2[:, 2:])
    shared = (far - near).clamp(min=0).prod(-1)
    union = _area(boxes1)[:, None] + _area(boxes2) - shared
    return shared / union, union


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute the generalised intersection over union of every pair of boxes, in [-1, 1].

    Args:
        boxes1: [N, 4] corners.
        boxes2: [M, 4] corners.

    Returns:
        [N, M]: IoU minus the fraction of the enclosing box that neither box covers.

    Raises:
        ValueError: if a box has x1 < x0 or y1 < y0 (checked on the CPU only).

    Reference: Generalized Intersection over Union, https://arxiv.org/abs/1902.09630
    """
    for boxes in (boxes1, boxes2):
        if boxes.device.type == "cpu" and bool((boxes[:, 2:] < boxes[:, :2]).any()):
            raise BadValue("boxes must be (x0, y0, x1, y1) with x1 >= x0 and y1 >= y0")
    iou, union = box_iou(boxes1, boxes2)
    near = torch.minimum(boxes1[:, None, :2], boxes2[:, :2])
    far = torch.maximum(boxes1[:, None, 2:], boxes2[:, 2:])
    hull = (far - near).prod(-1)
    return iou - (hull - union) / hull


def masks_to_boxes(masks: Tensor) -> Tensor:
    """Compute the bounding boxes of masks, as first and last columns and rows.

    Args:
        masks: [N, H, W]; nonzero pixels belong to the object.

    Returns:
        [N, 4] (first column, first row, last column, last row) in float32; zeros for empty masks.
    """
    masks = masks.bool()
    first_x, last_x = _span(masks.any(1))
    first_y, last_y = _span(masks.any(2))
    return torch.stack([first_x, first_y, last_x, last_y], -1).float()


def _span(touched: Tensor) -> tuple[Tensor, Tensor]:
    """Find the first and last True entries of each row of [N, K]; 0 if there are none."""
    index = torch.arange(touched.shape[1], device=touched.device)
    last = (touched * index).amax(1) if touched.shape[1] else index.new_zeros(len(touched))
    first = torch.where(touched, index, last[:, None]).amin(1) if touched.shape[1] else last
    return first, last


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)
