"""Gather annotations of mesh vertices."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...structures.data_relative import DensePoseDataRelative
from .utils import AnnotationsAccumulator, BoxAnnotationsAccumulator

__all__ = ["AnnotationsAccumulator", "CseAnnotationsAccumulator", "PackedCseAnnotations"]


@dataclass
class PackedCseAnnotations:
    """Vertex annotations of B boxes with P points in total, of R matched proposals.

    Args:
        x_gt: [P] positions in the ground-truth box, from 0 to 256.
        y_gt: [P], likewise.
        coarse_segm_gt: [B, 256, 256] part labels, -1 in boxes without; None if no box has any.
        vertex_mesh_ids_gt: [P] number of the mesh of each point.
        vertex_ids_gt: [P] vertex of each point.
        bbox_xywh_gt: [B, 4] ground-truth boxes.
        bbox_xywh_est: [B, 4] proposals.
        point_bbox_with_dp_indices: [P] box of each point among the B.
        point_bbox_indices: [P] box of each point among the R.
        bbox_indices: [B] position of each box among the R.
    """

    x_gt: Tensor
    y_gt: Tensor
    coarse_segm_gt: Tensor | None
    vertex_mesh_ids_gt: Tensor
    vertex_ids_gt: Tensor
    bbox_xywh_gt: Tensor
    bbox_xywh_est: Tensor
    point_bbox_with_dp_indices: Tensor
    point_bbox_indices: Tensor
    bbox_indices: Tensor


class CseAnnotationsAccumulator(BoxAnnotationsAccumulator):
    """Gathers vertex annotations."""

    def _tables_of(self, data: DensePoseDataRelative) -> dict[str, Tensor] | None:
        if not hasattr(data, "vertex_ids"):
            return None
        meshes = torch.full_like(data.vertex_ids, data.mesh_id)
        points = {"x_gt": data.x, "y_gt": data.y}
        return {**points, "vertex_mesh_ids_gt": meshes, "vertex_ids_gt": data.vertex_ids}

    def pack(self) -> PackedCseAnnotations | None:
        """Return all added annotations as one object; None if there are none."""
        content = self._pack()
        return None if content is None else PackedCseAnnotations(**content)
