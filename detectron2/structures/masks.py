"""Instance masks: bitmaps, polygons, and small maps over boxes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, device

from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.layers.roi_align import ROIAlign
from detectron2.utils.errors import BadIndex, BadType, BadValue
from detectron2.utils.memory import retry_if_cuda_oom

from ._bitmask_ops import bitmask_boxes, crop_bitmasks, crop_shared_bitmasks
from ._indexing import Index, as_index, row_slice
from ._polygons import extent, polygon_area, polygons_to_bitmask, rasterize_polygons_within_box, to_polygons
from .boxes import Boxes

__all__ = [
    "BitMasks",
    "PolygonMasks",
    "ROIAlign",
    "ROIMasks",
    "polygon_area",
    "polygons_to_bitmask",
    "rasterize_polygons_within_box",
    "retry_if_cuda_oom",
]


def _corners(boxes: Boxes | Tensor) -> Tensor:
    return boxes if isinstance(boxes, Tensor) else boxes.tensor


class BitMasks:
    """N masks of one image as bitmaps.

    Args:
        tensor: [N, H, W] tensor or array; nonzero pixels belong to the mask.

    Attributes:
        tensor: [N, H, W] bool.
        image_size: (H, W).
    """

    def __init__(self, tensor: Tensor | np.ndarray) -> None:
        if isinstance(tensor, Tensor):
            data = tensor.to(torch.bool)
        else:
            data = torch.as_tensor(np.asarray(tensor), dtype=torch.bool, device="cpu")
        if data.dim() != 3:
            raise BadValue(f"bit masks must be [N, H, W], got {tuple(data.shape)}")
        self.image_size = (data.shape[1], data.shape[2])
        self.tensor = data

    def to(self, *args: Any, **kwargs: Any) -> "BitMasks":
        """Move the masks as ``Tensor.to`` does."""
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def __getitem__(self, item: Index) -> "BitMasks":
        """Select masks; ``item`` is an integer of any kind (selects one), a slice, or an index or mask tensor."""
        picked = self.tensor[row_slice(item, self.tensor.shape[0])]
        if picked.dim() != 3:
            raise BadIndex(f"indexing BitMasks with {item!r} does not give a list of masks")
        return BitMasks(picked)

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the masks as tensors [H, W]."""
        yield from self.tensor

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self.tensor)})"

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def nonempty(self) -> Tensor:
        """Return [N] bool: whether the mask has a pixel."""
        return self.tensor.flatten(1).any(1)

    @staticmethod
    def from_polygon_masks(
        polygon_masks: "PolygonMasks | list[list[np.ndarray]]", height: int, width: int
    ) -> "BitMasks":
        """Rasterise polygons as the COCO API does.

        Args:
            polygon_masks: ``PolygonMasks``, or a list of flat polygons per instance.
            height: of the image.
            width: of the image.
        """
        instances = polygon_masks.polygons if isinstance(polygon_masks, PolygonMasks) else polygon_masks
        masks = np.zeros((len(instances), height, width), dtype=bool)
        for mask, polygons in zip(masks, instances):
            mask[:] = polygons_to_bitmask(polygons, height, width)
        return BitMasks(torch.from_numpy(masks))

    @staticmethod
    def from_roi_masks(roi_masks: "ROIMasks", height: int, width: int) -> "BitMasks":
        """Resize masks that cover the whole image to its size.

        ``ROIMasks`` have no boxes, so each is assumed to cover the image; otherwise use :meth:`ROIMasks.to_bitmasks`.

        Args:
            roi_masks: N masks.
            height: of the image.
            width: of the image.
        """
        whole = roi_masks.tensor.new_tensor([0, 0, width, height], dtype=torch.float32)
        return roi_masks.to_bitmasks(whole.expand(len(roi_masks), 4), height, width)

    def crop_and_resize(self, boxes: Tensor, mask_size: int, rows: Tensor | None = None) -> Tensor:
        """Crop each mask to its box, and resample it on a square grid.

        Args:
            boxes: [R, 4] XYXY, one per mask.
            mask_size: side of the grid.
            rows: int64 [R], the mask of each box; None = the i-th mask for the i-th box.

        Returns:
            [R, mask_size, mask_size] bool: whether at least half of the cell is covered.
        """
        corners = _corners(boxes)
        if rows is not None:
            return crop_shared_bitmasks(self.tensor, corners.to(self.device), rows, mask_size)
        if corners.shape[0] != self.tensor.shape[0]:
            raise BadValue(
                f"crop_and_resize takes one box per mask, got {len(corners)} for {len(self)} masks"
            )
        return crop_bitmasks(self.tensor, corners.to(self.device), mask_size)

    def get_bounding_boxes(self) -> Boxes:
        """Compute the tight box around each mask; zeros for an empty one."""
        return Boxes(bitmask_boxes(self.tensor))

    @staticmethod
    def cat(bitmasks_list: Sequence["BitMasks"]) -> "BitMasks":
        """Concatenate masks."""
        if len(bitmasks_list) == 0 or not all(isinstance(m, BitMasks) for m in bitmasks_list):
            raise BadValue("BitMasks.cat expects one or more BitMasks")
        return type(bitmasks_list[0])(torch.cat([m.tensor for m in bitmasks_list]))


class PolygonMasks:
    """N masks, each the union of polygons. They always stay on the CPU.

    Args:
        polygons: for each instance a list of polygons, each flat: [x0, y0, x1, y1, ...], 3 points or more,
            in pixels.

    Attributes:
        polygons: the polygons as float64 arrays.
    """

    def __init__(self, polygons: list[list[Tensor | np.ndarray]]) -> None:
        if not isinstance(polygons, (list, tuple)):
            raise BadType(f"polygons must be a list of instances, got {type(polygons).__name__}")
        self.polygons: list[list[np.ndarray]] = [to_polygons(instance) for instance in polygons]

    def to(self, *args: object, **kwargs: object) -> "PolygonMasks":
        """Return this object."""
        return self

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        """Compute the tight box around the points of each instance."""
        return Boxes(torch.tensor([extent(p) for p in self.polygons], dtype=torch.float32).reshape(-1, 4))

    def nonempty(self) -> Tensor:
        """Return [N] bool: whether the instance has a polygon."""
        return torch.tensor([len(p) > 0 for p in self.polygons], dtype=torch.bool)

    def __getitem__(self, item: Index) -> "PolygonMasks":
        """Select instances.

        Args:
            item: integer of any kind (selects one), slice, list of integers, or index or mask tensor.
        """
        picked = PolygonMasks([])
        picked.polygons = [self.polygons[i] for i in as_index(item, len(self))]
        return picked

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """Iterate over the instances as lists of polygons."""
        yield from self.polygons

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self.polygons)})"

    def __len__(self) -> int:
        return len(self.polygons)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Rasterise each instance within its box on a square grid.

        Args:
            boxes: [N, 4] XYXY, one per instance.
            mask_size: side of the grid.

        Returns:
            [N, mask_size, mask_size] bool, on the device of ``boxes``.
        """
        corners = _corners(boxes)
        if len(corners) != len(self):
            raise BadValue(f"crop_and_resize takes one box per instance, got {len(corners)} for {len(self)}")
        out = torch.zeros(len(self), mask_size, mask_size, dtype=torch.bool)
        for mask, polygons, box in zip(out, self.polygons, corners.detach().cpu().numpy()):
            mask[:] = rasterize_polygons_within_box(polygons, box, mask_size)
        return out.to(corners.device)

    def area(self) -> Tensor:
        """Compute the total area of the polygons of each instance, [N] float64; overlaps count twice."""
        areas = [sum(polygon_area(p[0::2], p[1::2]) for p in polygons) for polygons in self.polygons]
        return torch.tensor(areas, dtype=torch.float64)

    @staticmethod
    def cat(polymasks_list: Sequence["PolygonMasks"]) -> "PolygonMasks":
        """Concatenate masks."""
        if len(polymasks_list) == 0 or not all(isinstance(m, PolygonMasks) for m in polymasks_list):
            raise BadValue("PolygonMasks.cat expects one or more PolygonMasks")
        joined = type(polymasks_list[0])([])
        joined.polygons = [polygons for masks in polymasks_list for polygons in masks.polygons]
        return joined


class ROIMasks:
    """N small square masks, each covering a box that is stored elsewhere.

    Args:
        tensor: [N, M, M], usually probabilities.
    """

    def __init__(self, tensor: Tensor) -> None:
        if tensor.dim() != 3:
            raise BadValue(f"region masks must be [N, M, M], got {tuple(tensor.shape)}")
        self.tensor = tensor

    def to(self, device: device) -> "ROIMasks":
        """Move the masks to ``device``."""
        return ROIMasks(self.tensor.to(device))

    @property
    def device(self) -> device:
        """Device of the tensor."""
        return self.tensor.device

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, item: Index) -> "ROIMasks":
        """Select masks; ``item`` is an integer of any kind (selects one), a slice, or an index or mask tensor."""
        return ROIMasks(self.tensor[row_slice(item, self.tensor.shape[0])])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self.tensor)})"

    @staticmethod
    def cat(roi_masks_list: Sequence["ROIMasks"]) -> "ROIMasks":
        """Concatenate masks of the same size."""
        if len(roi_masks_list) == 0 or not all(isinstance(m, ROIMasks) for m in roi_masks_list):
            raise BadValue("ROIMasks.cat expects one or more ROIMasks")
        return type(roi_masks_list[0])(torch.cat([m.tensor for m in roi_masks_list]))

    def to_bitmasks(self, boxes: Tensor, height: int, width: int, threshold: float = 0.5) -> BitMasks:
        """Paste each mask into its box on the image.

        Args:
            boxes: ``Boxes`` or [N, 4] XYXY, one per mask.
            height: of the image.
            width: of the image.
            threshold: pixels of this value or more belong to the mask.
        """
        return BitMasks(paste_masks_in_image(self.tensor, boxes, (height, width), threshold=threshold))
