"""Non-maximum suppression, axis-aligned and rotated, plain and per class."""

import numpy as np
import torch
from torch import Tensor

from detectron2.utils.errors import BadValue
from detectron2.utils.tracing import is_recording

from ._torchvision import nms
from .rotated.nms import rotated_nms
from .wrappers import disable_torch_compiler

__all__ = ["batched_nms", "batched_nms_rotated", "disable_torch_compiler", "nms", "nms_rotated"]

# Above this number of boxes, the N²/2 comparisons across classes cost more than one call per class.
_PER_CLASS_FROM = {"cpu": 1_000, "": 40_000}

# Groups that :func:`nms_of_few_groups` can separate: four quadrants at four scales.
FEW_GROUPS = 16


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Suppress boxes that overlap one of the same class with a higher score.

    There is no data-dependent branch, so that whole models can be exported: the boxes of each class are shifted to a
    separate region, in double precision, which changes no IoU by more than 1e-9. Outside compiled graphs, many boxes
    are processed class by class, in their own precision, with the same result.

    Args:
        boxes: [N, 4] XYXY.
        scores: [N].
        idxs: [N] class (or level, or image) of each box; non-negative integers.
        iou_threshold: boxes whose IoU with a kept one of their class exceeds this are dropped.

    Returns:
        int64 indices of the boxes kept, highest score first.
    """
    if boxes.dim() != 2 or boxes.shape[-1] != 4:
        raise BadValue(f"boxes must be [N, 4], got {tuple(boxes.shape)}")
    if not is_recording():
        if boxes.shape[0] > _PER_CLASS_FROM.get(boxes.device.type, _PER_CLASS_FROM[""]):
            return _nms_class_by_class(boxes, scores, idxs, iou_threshold)
    # MPS has no float64; the square grid below keeps coordinates small enough for float32.
    dtype = torch.float32 if boxes.device.type == "mps" else torch.float64
    boxes = boxes.to(dtype)
    # The zero defines the extremes if there are no boxes.
    coordinates = torch.cat([boxes.flatten(), boxes.new_zeros(1)])
    extent = coordinates.max() - coordinates.min() + 1
    classes = torch.cat([idxs, idxs.new_zeros(1)]).max() + 1
    side = classes.to(dtype).sqrt().ceil()  # classes are arranged on a side x side grid
    cls = idxs.to(dtype)
    row = torch.div(cls, side, rounding_mode="floor")
    cell = torch.stack([cls - row * side, row], 1) * extent  # [N, 2]
    return nms(boxes + cell.repeat(1, 2), scores.to(dtype), iou_threshold)


def nms_of_few_groups(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Suppress boxes as :func:`batched_nms` does, in float32, which many accelerators compute far faster.

    An offset in float32 would round coordinates. Reflections and factors that are powers of two change no bit of an
    IoU, so each group gets a quadrant of the plane and a scale. Scales differ by 2^34, so that the IoU of boxes of
    different scales is below 1e-6.

    Args:
        boxes: [N, 4] XYXY, with coordinates from 0 to 2^15 and sides of at least 2^-8.
        scores: [N].
        idxs: [N] integers from 0 to 15.
        iou_threshold: at least 1e-6; boxes whose IoU with a kept one of their group exceeds this are dropped.

    Returns:
        int64 indices of the boxes kept, highest score first.
    """
    exponent = torch.div(idxs, 4, rounding_mode="floor") * 34 - 54
    # The bits of a float32 without mantissa: a power of two without rounding, which pow() does not promise.
    scale = ((exponent + 127) << 23).to(torch.int32).view(torch.float32)
    signs = 1 - 2 * (torch.stack((idxs, idxs >> 1), dim=1) & 1)  # of x and y
    factors = scale[:, None] * signs
    a, b = boxes[:, :2] * factors, boxes[:, 2:] * factors
    apart = torch.cat((torch.minimum(a, b), torch.maximum(a, b)), dim=1).float()
    return nms(apart, scores.float(), _as_float32(iou_threshold))


def _as_float32(threshold: float) -> float:
    """Round a threshold for comparisons in float32, so that an IoU of exactly 0.3 does not exceed 0.3."""
    return float(np.float32(threshold))


def _nms_class_by_class(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    boxes, scores = boxes.float() if boxes.element_size() < 4 else boxes, scores.to(boxes.dtype)
    if boxes.dtype == torch.float32:
        iou_threshold = _as_float32(iou_threshold)
    by_class = idxs.argsort(stable=True)
    counts = idxs.unique(return_counts=True)[1].tolist()
    kept = [part[nms(boxes[part], scores[part], iou_threshold)] for part in by_class.split(counts)]
    keep = torch.cat(kept)
    keep = keep.sort().values  # order equal scores by position, as one call does
    return keep[scores[keep].argsort(descending=True, stable=True)]


def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Suppress rotated boxes that overlap one with a higher score.

    Boxes are compared as regions: (xc, yc, w, h, 0) and (xc, yc, h, w, 90) are equal, as are angles that differ by 180
    degrees. Models that distinguish the front of an object from its back should encode the direction in the class, and
    call :func:`batched_nms_rotated`.

    Args:
        boxes: [N, 5] of (x centre, y centre, width, height, angle in degrees counter-clockwise).
        scores: [N].
        iou_threshold: boxes whose IoU with a kept one exceeds this are dropped.

    Returns:
        int64 indices of the boxes kept, highest score first.
    """
    return rotated_nms(boxes, scores, torch.zeros_like(scores, dtype=torch.int64), iou_threshold)


def batched_nms_rotated(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Suppress rotated boxes within each class.

    Args:
        boxes: [N, 5] of (x centre, y centre, width, height, angle in degrees counter-clockwise).
        scores: [N].
        idxs: [N] class of each box.
        iou_threshold: boxes whose IoU with a kept one of their class exceeds this are dropped.

    Returns:
        int64 indices of the boxes kept, highest score first.
    """
    return rotated_nms(boxes, scores, idxs, iou_threshold)
