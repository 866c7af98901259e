"""Rotated boxes."""

import torch
from torch import Tensor

from detectron2.layers.rotated_boxes import pairwise_iou_rotated

from ._indexing import as_rows
from .boxes import Boxes

__all__ = ["RotatedBoxes", "clip_rotated", "pairwise_iou", "pairwise_iou_rotated"]


def clip_rotated(
    boxes: Tensor, height: int | Tensor, width: int | Tensor, clip_angle_threshold: float = 1.0
) -> Tensor:
    """Return [N, 5] boxes as :meth:`RotatedBoxes.clip` leaves them; the size may be numbers or scalars."""
    centre, size = boxes[:, :2], boxes[:, 2:4]
    angle = _normalized(boxes[:, 4:])
    low, high = centre - size / 2, centre + size / 2
    near, far = (
        torch.stack([side[:, 0].clamp(min=0).clamp(max=width), side[:, 1].clamp(min=0).clamp(max=height)], 1)
        for side in (low, high)
    )
    # Rounding must not let a box grow.
    cut = torch.cat([(near + far) / 2, torch.minimum(size, far - near), angle], 1)
    return torch.where(angle.abs() <= clip_angle_threshold, cut, torch.cat([boxes[:, :4], angle], 1))


class RotatedBoxes(Boxes):
    """N boxes as an [N, 5] float32 tensor of (x centre, y centre, width, height, angle).

    The angle is in degrees, counter-clockwise in the displayed image (x to the right, y down): the corner at
    ``(u, v) = (w / 2, h / 2)`` in the box's own frame is at ``centre + (u cos a + v sin a, v cos a - u sin a)`` in the
    image. Angles that differ by 360 are equal; those that differ by 180 give the same region.

    Args:
        tensor: [N, 5] tensor, array or nested list; an empty one gives no boxes.

    Attributes:
        tensor: [N, 5].
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = as_rows(tensor, 5, type(self).__name__)

    def to(self, device: torch.device, non_blocking: bool = False) -> "RotatedBoxes":
        """Move the boxes to ``device``."""
        return type(self)(self.tensor.to(device=device, non_blocking=non_blocking))

    def area(self) -> Tensor:
        """Compute the areas [N]."""
        return self.tensor[:, 2] * self.tensor[:, 3]

    def normalize_angles(self) -> None:
        """Normalise the angles in place to [-180, 180)."""
        self.tensor = torch.cat([self.tensor[:, :4], _normalized(self.tensor[:, 4:])], 1)

    def clip(self, box_size: tuple[int, int], clip_angle_threshold: float = 1.0) -> None:
        """Clip nearly axis-aligned boxes in place to the image, and normalise all angles.

        Other boxes are not clipped, since the result would not be a rectangle.

        Args:
            box_size: (height, width).
            clip_angle_threshold: largest angle of boxes to clip, in degrees.
        """
        self.tensor = clip_rotated(self.tensor, *box_size, clip_angle_threshold)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return [N] bool: whether both sides are longer than ``threshold`` pixels."""
        return (self.tensor[:, 2:4] > threshold).all(-1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Return [N] bool: whether all corners are in the image, or exceed it by less than ``boundary_threshold`` pixels.

        Args:
            box_size: (height, width).
            boundary_threshold: pixels of tolerance.
        """
        height, width = box_size
        x, y, w, h, angle = self.tensor.unbind(1)
        turn = torch.deg2rad(angle)
        cos, sin = turn.cos().abs(), turn.sin().abs()
        dx, dy = (cos * w + sin * h) / 2, (sin * w + cos * h) / 2
        near = torch.minimum(x - dx, y - dy) >= -boundary_threshold
        return near & (x + dx < width + boundary_threshold) & (y + dy < height + boundary_threshold)

    def get_centers(self) -> Tensor:
        """Compute the centres [N, 2], (x, y)."""
        return self.tensor[:, :2]

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Scale x and y coordinates in place.

        Unequal factors turn a rotated rectangle into a parallelogram, which is replaced by the rectangle with the same
        centre, side lengths, and direction of the height.

        Args:
            scale_x: factor of x.
            scale_y: factor of y.
        """
        x, y, w, h, angle = self.tensor.unbind(1)
        turn = torch.deg2rad(angle)
        cos, sin = turn.cos(), turn.sin()
        new_w = w * torch.hypot(scale_x * cos, scale_y * sin)
        new_h = h * torch.hypot(scale_x * sin, scale_y * cos)
        angle = torch.rad2deg(torch.atan2(scale_x * sin, scale_y * cos))
        self.tensor = torch.stack([x * scale_x, y * scale_y, new_w, new_h, angle], 1)


def _normalized(angle: Tensor) -> Tensor:
    return torch.remainder(angle + 180.0, 360.0) - 180.0


def pairwise_iou(boxes1: RotatedBoxes, boxes2: RotatedBoxes) -> Tensor:
    """Compute the intersection over union of every pair.

    Args:
        boxes1: N boxes.
        boxes2: M boxes.

    Returns:
        [N, M] in [0, 1].
    """
    return pairwise_iou_rotated(boxes1.tensor, boxes2.tensor)
