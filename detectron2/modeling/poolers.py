"""Pooling of fixed-size features for every box of a batch, from one or several feature maps.

N images, R boxes in the whole batch, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detectron2.layers import ROIAlign, ROIAlignRotated
from detectron2.structures import Boxes
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on

from ._selection import rows_of

__all__ = ["ROIPooler", "assign_boxes_to_levels", "convert_boxes_to_pooler_format"]

__getattr__ = passed_on(__name__)


def assign_boxes_to_levels(
    box_lists: Sequence[Boxes],
    min_level: int,
    max_level: int,
    canonical_box_size: int,
    canonical_level: int,
) -> Tensor:
    """Assign each box to a feature level by its size.

    FPN (Lin et al. 2017, https://arxiv.org/abs/1612.03144), equation 1.

    Args:
        box_lists: boxes of N images.
        min_level, max_level: first and last available level, to which results are clamped; level l has stride 2 ** l.
        canonical_box_size: square root, in pixels, of the area of a box that is assigned to ``canonical_level``.
        canonical_level: see above.

    Returns:
        int64 [R], 0 for ``min_level``.
    """
    areas = torch.cat([boxes.area() for boxes in box_lists])
    return _levels_of_areas(areas, min_level, max_level, canonical_box_size, canonical_level)


def _levels_of_areas(
    areas: Tensor, min_level: int, max_level: int, canonical_box_size: int, canonical_level: int
) -> Tensor:
    # The small term keeps the logarithm of an empty box finite.
    octave = torch.log2(areas.sqrt() / canonical_box_size + 1e-8)
    return torch.floor(canonical_level + octave).clamp(min_level, max_level).long() - min_level


def convert_boxes_to_pooler_format(box_lists: Sequence[Boxes]) -> Tensor:
    """Concatenate the boxes of N images into one tensor [R, 1 + D] whose first column is the image index.

    Args:
        box_lists: Boxes (D = 4) or RotatedBoxes (D = 5), one for each image.
    """
    rows = []
    for i, boxes in enumerate(box_lists):
        t = boxes.tensor
        rows.append(torch.cat((torch.full_like(t[:, :1], i), t), dim=1))
    return torch.cat(rows)


def _build_op(kind: str, size: tuple[int, int], scale: float, sampling_ratio: int) -> nn.Module:
    if kind == "ROIAlign":
        return ROIAlign(size, spatial_scale=scale, sampling_ratio=sampling_ratio, aligned=False)
    if kind == "ROIAlignV2":
        return ROIAlign(size, spatial_scale=scale, sampling_ratio=sampling_ratio, aligned=True)
    if kind == "ROIAlignRotated":
        return ROIAlignRotated(size, spatial_scale=scale, sampling_ratio=sampling_ratio)
    if kind == "ROIPool":
        from torchvision.ops import RoIPool  # slow to import

        return RoIPool(size, spatial_scale=scale)
    raise BadValue(
        f"unknown pooler_type {kind!r}; known are 'ROIAlign', 'ROIAlignV2', 'ROIAlignRotated' and 'ROIPool'"
    )


def _level_of_scale(scale: float) -> int:
    """Return log2 of the stride 1 / ``scale``."""
    level = -math.log2(scale)
    if not math.isclose(level, round(level), abs_tol=1e-9):
        raise BadValue(f"scales must be powers of two such as 1/8, got {scale}")
    return round(level)


class ROIPooler(nn.Module):
    """Pool each box from the feature map that suits its size.

    Args:
        output_size: height and width of the result, or one number for both.
        scales: size of each feature map relative to the image, e.g. 1/4; powers of two, each half of the one before.
        sampling_ratio: ROIAlign samples per bin in each direction; 0 = one per feature-map cell that the bin covers.
        pooler_type: "ROIPool", "ROIAlign" (shifted by half a pixel, as in the original Mask R-CNN code),
            "ROIAlignV2" or "ROIAlignRotated".
        canonical_box_size, canonical_level: see :func:`assign_boxes_to_levels`. The defaults follow ImageNet
            pre-training: images of 224 pixels and features of stride 16.

    Raises:
        ValueError: for an unknown ``pooler_type``, or if the scales are not consecutive powers of two.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int] | list[int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        if len(size) != 2:
            raise BadValue(f"output_size must be one number or (height, width), got {output_size}")
        if canonical_box_size <= 0:
            raise BadValue(f"canonical_box_size must be positive, got {canonical_box_size}")
        self.output_size: tuple[int, int] = (int(size[0]), int(size[1]))
        self.level_poolers = nn.ModuleList(
            _build_op(pooler_type, self.output_size, s, sampling_ratio) for s in scales
        )
        levels = [_level_of_scale(s) for s in scales]
        if not levels or levels != list(range(levels[0], levels[0] + len(levels))):
            raise BadValue(
                f"scales must go down by factors of two, e.g. (1/4, 1/8, 1/16), got {list(scales)}"
            )
        self.min_level, self.max_level = levels[0], levels[-1]
        self.canonical_level = canonical_level
        self.canonical_box_size = canonical_box_size

    def forward(self, x: list[Tensor], box_lists: Sequence[Boxes]) -> Tensor:
        """Pool features [R, C, height, width] of all boxes, in the order of the images and of their boxes.

        Args:
            x: feature maps [N, C, H, W], one for each scale.
            box_lists: N Boxes or RotatedBoxes in image coordinates.

        Raises:
            ValueError: if the number of feature maps differs from that of the scales, or that of the images from N.
        """
        if len(x) != len(self.level_poolers):
            raise BadValue(f"this pooler has {len(self.level_poolers)} scales, got {len(x)} feature maps")
        if len(box_lists) != x[0].size(0):
            raise BadValue(f"got boxes of {len(box_lists)} images, but features of {x[0].size(0)}")
        if len(box_lists) == 0:
            return x[0].new_zeros((0, x[0].shape[1], *self.output_size))
        rois = convert_boxes_to_pooler_format(box_lists)
        areas = torch.cat([boxes.area() for boxes in box_lists])
        return self.pool(x, rois, areas)

    def pool_tensors(self, x: list[Tensor], boxes: Tensor) -> Tensor:
        """Pool the same number of boxes in each image, for :class:`.TensorInference`.

        Args:
            x: feature maps [N, C, H, W], one for each scale.
            boxes: [N, R, 4], or [N, R, 5] rotated ones, in image coordinates.

        Returns:
            [N * R, C, height, width]
        """
        image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
        index = image[:, None, None].expand(-1, boxes.shape[1], 1)
        rois = torch.cat((index, boxes), dim=2).flatten(0, 1)  # [N * R, 1 + D]
        sides = rois[:, 3:5] - rois[:, 1:3] if boxes.shape[2] == 4 else rois[:, 3:5]
        return self.pool(x, rois, sides[:, 0] * sides[:, 1], masked=x[0].device.type != "cpu")

    def pool(self, x: list[Tensor], rois: Tensor, areas: Tensor, masked: bool = False) -> Tensor:
        """Pool ``rois`` [R, 1 + D] (image index, box) of the given ``areas`` [R].

        With ``masked``, the host does not wait to learn how many boxes are on each level.
        """
        if len(self.level_poolers) == 1:
            return self.level_poolers[0](x[0], rois)
        level = _levels_of_areas(
            areas, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        # Exported graphs may contain sizes that depend on values, and their runtimes pay for empty boxes.
        if masked or (torch.compiler.is_compiling() and not torch.compiler.is_exporting()):
            return self._pool_masked(x, rois, level)
        output = x[0].new_zeros((rois.shape[0], x[0].shape[1], *self.output_size))
        rows_of_level = rows_of([level == i for i in range(len(x))])
        for rows, features, op in zip(rows_of_level, x, self.level_poolers):
            output.index_put_((rows,), op(features, rois[rows]).to(output.dtype))
        return output

    def _pool_masked(self, x: list[Tensor], rois: Tensor, level: Tensor) -> Tensor:
        """Pool with shapes that do not depend on values: a box is empty on every level but its own.

        Empty boxes cost almost nothing, because the number of samples grows with the size of the box.
        """
        output = x[0].new_zeros((rois.shape[0], x[0].shape[1], *self.output_size))
        for i, (features, op) in enumerate(zip(x, self.level_poolers)):
            here = level == i  # [R]
            index, boxes = rois[:, :1], rois[:, 1:]
            pooled = op(features, torch.cat((index, boxes * here[:, None]), dim=1))
            output = torch.where(here[:, None, None, None], pooled.to(output.dtype), output)
        return output
