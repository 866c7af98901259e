"""Rotated boxes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from detectron2.layers.rotated_boxes import pairwise_iou_rotated

from ._indexing import Index, as_rows
from .boxes import Boxes

__all__ = ["RotatedBoxes", "pairwise_iou", "pairwise_iou_rotated"]


class RotatedBoxes(Boxes):
    """N boxes as an [N, 5] float32 tensor of (x centre, y centre, width, height, angle).

    The angle is in degrees, counter-clockwise as one sees the picture (x to the right, y down): the corner at
    (w / 2, h / 2) of the box's own frame lies at ``centre + (u cos a + v sin a, v cos a - u sin a)`` for
    ``(u, v) = (w / 2, h / 2)``. Angles that differ by 360 are the same; by 180, the same region.

    Args:
        tensor: [N, 5] tensor, array or nested list; anything empty stands for no boxes.

    Attributes:
        tensor: [N, 5].
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = as_rows(tensor, 5, type(self).__name__)

    def clone(self) -> "RotatedBoxes":
        """Return a deep copy."""
        return type(self)(self.tensor.clone())

    def to(self, device: torch.device, non_blocking: bool = False) -> "RotatedBoxes":
        """Move the boxes to ``device``."""
        return type(self)(self.tensor.to(device=device, non_blocking=non_blocking))

    def area(self) -> Tensor:
        """Compute the areas [N]."""
        return self.tensor[:, 2] * self.tensor[:, 3]

    def normalize_angles(self) -> None:
        """Bring the angles, in place, into [-180, 180)."""
        self.tensor = torch.cat([self.tensor[:, :4], _normalized(self.tensor[:, 4:])], 1)

    def clip(self, box_size: tuple[int, int], clip_angle_threshold: float = 1.0) -> None:
        """Cut boxes that are nearly upright, in place, to the image; normalise all angles.

        What is left of a strongly rotated box is no rectangle, so these stay as they are.

        Args:
            box_size: (height, width).
            clip_angle_threshold: Boxes of at most this angle, in degrees, are cut.
        """
        height, width = box_size
        self.normalize_angles()
        centre, size, angle = self.tensor.split([2, 2, 1], 1)
        limit = torch.stack(
            [torch.as_tensor(s, dtype=size.dtype, device=size.device) for s in (width, height)]
        )
        near = (centre - size / 2).clamp(min=0).minimum(limit)
        far = (centre + size / 2).clamp(min=0).minimum(limit)
        # Rounding must not let a box grow.
        cut = torch.cat([(near + far) / 2, torch.minimum(size, far - near), angle], 1)
        self.tensor = torch.where(angle.abs() <= clip_angle_threshold, cut, self.tensor)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return [N] bool: both sides are longer than ``threshold`` pixels."""
        return (self.tensor[:, 2:4] > threshold).all(-1)

    def __getitem__(self, item: Index) -> "RotatedBoxes":
        """Pick some of the boxes; an integer of any kind gives one.

        Args:
            item: integer, slice, or index or mask tensor.
        """
        return super().__getitem__(item)  # type: ignore[return-value]

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tensor})"

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Return [N] bool: all corners lie in the image, or reach out by less than ``boundary_threshold`` pixels.

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

        Unequal factors turn a rotated rectangle into a parallelogram. It is replaced by the rectangle
        with the same centre, the same lengths of both pairs of sides, and the direction of the height side.

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

    @classmethod
    def cat(cls, boxes_list: Sequence["RotatedBoxes"]) -> "RotatedBoxes":  # type: ignore[override]
        """Concatenate the boxes of a list; an empty list gives no boxes."""
        return super().cat(boxes_list)  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the boxes, a tensor [5] each."""
        yield from self.tensor


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
