"""Keypoints, and conversion to and from heatmaps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detectron2.utils.errors import BadValue

from ._heatmaps import decode_heatmaps, decode_in_graph
from ._indexing import Index, row_slice

__all__ = ["Keypoints", "heatmaps_to_keypoints"]


class Keypoints:
    """N instances with K keypoints (x, y, visibility) each.

    Visibility as in COCO: 0 = not labelled, 1 = labelled but hidden, 2 = labelled and visible.

    Args:
        keypoints: [N, K, 3] tensor, array or nested list.

    Attributes:
        tensor: [N, K, 3] float32.
    """

    def __init__(self, keypoints: Tensor | np.ndarray | list[list[list[float]]]) -> None:
        if isinstance(keypoints, Tensor):
            data = keypoints.to(torch.float32)
        else:
            data = torch.as_tensor(np.asarray(keypoints, dtype=np.float32), device="cpu")
        if data.dim() != 3 or data.shape[2] != 3:
            raise BadValue(f"keypoints must be [N, K, 3] of (x, y, visibility), got {tuple(data.shape)}")
        self.tensor = data

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> "Keypoints":
        """Move the keypoints as ``Tensor.to`` does."""
        return type(self)(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def to_heatmap(self, boxes: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
        """Compute the position of each keypoint on the heatmap of its box.

        Args:
            boxes: [N, 4] XYXY, one per instance.
            heatmap_size: side of the square heatmap.

        Returns:
            ``(positions, valid)``: [N, K] int64 flat positions ``y * heatmap_size + x``, and [N, K] int64, 1 for
            labelled keypoints inside their box; otherwise both are 0.
        """
        corners: Tensor = getattr(boxes, "tensor", boxes)
        near, far = corners[:, None, :2], corners[:, None, 2:]  # [N, 1, 2]
        points = self.tensor[..., :2]
        # The order of operations decides to which pixel a keypoint on a border belongs.
        cell = ((points - near) * (heatmap_size / (far - near))).floor().long()
        cell = torch.where(points == far, heatmap_size - 1, cell)  # the far sides belong to the box
        valid = ((cell >= 0) & (cell < heatmap_size)).all(-1) & (self.tensor[..., 2] > 0)
        positions = cell[..., 1] * heatmap_size + cell[..., 0]
        return torch.where(valid, positions, 0), valid.long()

    def __getitem__(self, item: Index) -> "Keypoints":
        """Select instances; an integer selects one."""
        return type(self)(self.tensor[row_slice(item, self.tensor.shape[0])])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self.tensor)})"

    @staticmethod
    def cat(keypoints_list: Sequence["Keypoints"]) -> "Keypoints":
        """Concatenate keypoints of several objects."""
        if len(keypoints_list) == 0 or not all(isinstance(k, Keypoints) for k in keypoints_list):
            raise BadValue("Keypoints.cat expects one or more Keypoints")
        first = keypoints_list[0]
        return type(first)(torch.cat([k.tensor for k in keypoints_list]))


def heatmaps_to_keypoints(maps: Tensor, rois: Tensor) -> Tensor:
    """Find the best position of each keypoint from heatmaps over regions.

    Every heatmap is enlarged (bicubic) to the pixels of its region; the keypoint is at the centre of the pixel with
    the largest logit. The score is the softmax over the original heatmap, evaluated at that logit.

    Args:
        maps: [R, K, S, S] logits.
        rois: [R, 4] XYXY, the region that each heatmap covers; sides are at least one pixel.

    Returns:
        [R, K, 4] of (x, y, logit, score).

    Reference: Mask R-CNN, https://arxiv.org/abs/1703.06870
    """
    if maps.dim() != 4 or rois.dim() != 2 or rois.shape[1] != 4:
        raise BadValue(
            f"expected maps [R, K, S, S] and rois [R, 4], got {tuple(maps.shape)} and {tuple(rois.shape)}"
        )
    return decode_heatmaps(maps.detach(), rois.detach())


def heatmaps_to_keypoints_without_waits(maps: Tensor, rois: Tensor) -> Tensor:
    """Do what :func:`heatmaps_to_keypoints` does, by shapes that depend on no value.

    The maximum is searched near the 16 highest places of each heatmap; in regions of more than 1344 pixels, at every
    other pixel.
    """
    return decode_in_graph(maps.detach(), rois.detach())
