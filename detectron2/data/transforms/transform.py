"""Deterministic transforms of images, points, boxes, polygons and label maps.

An :class:`~detectron2.data.transforms.Augmentation` makes the random choices and returns a transform.
"""

from __future__ import annotations

import math

import numpy as np

from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import publish

from .operations.base import NoOpTransform, Transform, TransformList
from .operations.color import BlendTransform, ColorTransform, PILColorTransform
from .operations.flip_crop_pad import CropTransform, HFlipTransform, PadTransform, VFlipTransform
from .operations.resize_warp import (
    ExtentTransform,
    GridSampleTransform,
    ResizeTransform,
    RotationTransform,
    ScaleTransform,
)

__all__ = [
    "BlendTransform",
    "ColorTransform",
    "CropTransform",
    "ExtentTransform",
    "GridSampleTransform",
    "HFlipTransform",
    "NoOpTransform",
    "PILColorTransform",
    "PadTransform",
    "ResizeTransform",
    "RotationTransform",
    "ScaleTransform",
    "Transform",
    "TransformList",
    "VFlipTransform",
]

publish(__name__, *(globals()[_name] for _name in __all__))


def _rows(rotated_boxes: np.ndarray) -> np.ndarray:
    boxes = np.array(rotated_boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise BadValue(f"rotated boxes must be (N, 5): cx, cy, w, h, angle in degrees; got {boxes.shape}")
    return boxes if np.issubdtype(boxes.dtype, np.floating) else boxes.astype(np.float64)


@HFlipTransform.register_type("rotated_box")
@VFlipTransform.register_type("rotated_box")
def _mirror_rotated_boxes(transform: Transform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Mirror boxes (N, 5): centres are mirrored like points, angles change sign."""
    boxes = _rows(rotated_boxes)
    boxes[:, :2] = transform.apply_coords(boxes[:, :2])
    boxes[:, 4] *= -1
    return boxes


@CropTransform.register_type("rotated_box")
@PadTransform.register_type("rotated_box")
def _shift_rotated_boxes(transform: Transform, rotated_boxes: np.ndarray) -> np.ndarray:
    boxes = _rows(rotated_boxes)
    boxes[:, :2] = transform.apply_coords(boxes[:, :2])
    return boxes


@RotationTransform.register_type("rotated_box")
def _turn_rotated_boxes(transform: RotationTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    boxes = _rows(rotated_boxes)
    boxes[:, :2] = transform.apply_coords(boxes[:, :2])
    boxes[:, 4] += transform.angle
    return boxes


@ResizeTransform.register_type("rotated_box")
@ScaleTransform.register_type("rotated_box")
@ExtentTransform.register_type("rotated_box")
def _scale_rotated_boxes(transform: Transform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Scale boxes (N, 5) by two factors.

    Unequal factors turn a rectangle into a parallelogram. The result keeps the lengths of its sides and the direction
    of its height.
    """
    boxes = _rows(rotated_boxes)
    boxes[:, :2] = transform.apply_coords(boxes[:, :2])
    sx, sy = np.diff(transform.apply_coords(np.asarray([[0.0, 0.0], [1.0, 1.0]])), axis=0)[0]
    turn = boxes[:, 4] * (math.pi / 180)
    cos, sin = np.cos(turn), np.sin(turn)
    boxes[:, 2] *= np.hypot(sx * cos, sy * sin)
    boxes[:, 3] *= np.hypot(sx * sin, sy * cos)
    boxes[:, 4] = np.degrees(np.arctan2(sx * sin, sy * cos))
    return boxes
