"""DensePose annotations of the instances of an image."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .data_relative import DensePoseDataRelative

__all__ = ["DensePoseList"]

_CPU = torch.device("cpu")


class DensePoseList:
    """N instances, some of which have a DensePose annotation.

    Args:
        densepose_datas: annotation of each instance, or None.
        boxes_xyxy_abs: [N, 4] boxes that the annotations refer to, in pixels.
        image_size_hw: height and width of the image.
        device: target device of annotations and boxes.

    Raises:
        ValueError: the numbers of annotations and boxes differ.
        TypeError: an annotation is not a ``DensePoseDataRelative``.
    """

    def __init__(
        self,
        densepose_datas: Sequence[DensePoseDataRelative | None],
        boxes_xyxy_abs: Tensor,
        image_size_hw: tuple[int, int],
        device: torch.device = _CPU,
    ) -> None:
        if len(densepose_datas) != len(boxes_xyxy_abs):
            raise ValueError(
                f"expected one annotation per box, got {len(densepose_datas)} for {len(boxes_xyxy_abs)} boxes"
            )
        for data in densepose_datas:
            if data is not None and not isinstance(data, DensePoseDataRelative):
                raise TypeError(f"expected DensePoseDataRelative or None, got {type(data).__name__}")
        self.densepose_datas = [None if d is None else d.to(device) for d in densepose_datas]
        self.boxes_xyxy_abs = boxes_xyxy_abs.to(device)
        self.image_size_hw = image_size_hw
        self.device = torch.device(device)

    def to(self, device: torch.device) -> "DensePoseList":
        """Return the list on another device; the same object if it is there already."""
        if self.device == torch.device(device):
            return self
        return DensePoseList(self.densepose_datas, self.boxes_xyxy_abs, self.image_size_hw, device)

    def __iter__(self) -> Iterator[DensePoseDataRelative | None]:
        return iter(self.densepose_datas)

    def __len__(self) -> int:
        return len(self.densepose_datas)

    def __repr__(self) -> str:
        height, width = self.image_size_hw
        return f"{type(self).__name__}(num_instances={len(self)}, image_width={width}, image_height={height})"

    def __getitem__(self, item: Any) -> "DensePoseList | DensePoseDataRelative | None":
        """Return the annotation of one instance (integer), or some instances (slice, list, mask or indices)."""
        rows = torch.arange(len(self))[item.cpu() if isinstance(item, Tensor) else item]
        if rows.dim() == 0:
            return self.densepose_datas[int(rows)]
        datas = [self.densepose_datas[row] for row in rows.tolist()]
        boxes = self.boxes_xyxy_abs[rows.to(self.device)]
        return DensePoseList(datas, boxes, self.image_size_hw, self.device)
