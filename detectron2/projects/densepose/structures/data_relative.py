"""Annotated points and parts of one instance, relative to its box."""

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch import Tensor

from detectron2.data.transforms import HFlipTransform, RotationTransform, TransformList

from ..data.meshes.catalog import MeshCatalog
from .mesh import load_mesh_symmetry
from .transform_data import DensePoseTransformData

__all__ = ["DensePoseDataRelative"]


class DensePoseDataRelative:
    """DensePose annotation of one instance, in coordinates that run from 0 to 256 over its box.

    K points have either chart coordinates (``i``, ``u``, ``v``) or vertices of a mesh (``vertex_ids``). Missing parts of
    an annotation have no attribute.

    Args:
        annotation: dictionary in the format of DensePose-COCO.
        cleanup: remove the keys that were read from ``annotation``.

    Attributes:
        x, y: [K] float32 positions of the points.
        i: [K] float32 charts, from 1 to 24.
        u, v: [K] float32 coordinates within the chart, from 0 to 1.
        vertex_ids: [K] int64 vertices.
        mesh_id: number of their mesh in ``MeshCatalog``.
        segm: [256, 256] float32 part labels: 0 for background, up to 14.
    """

    X_KEY = "dp_x"
    Y_KEY = "dp_y"
    I_KEY = "dp_I"
    U_KEY = "dp_U"
    V_KEY = "dp_V"
    S_KEY = "dp_masks"
    VERTEX_IDS_KEY = "dp_vertex"
    MESH_NAME_KEY = "ref_model"
    N_BODY_PARTS = 14
    N_PART_LABELS = 24
    MASK_SIZE = 256

    x: Tensor
    y: Tensor
    i: Tensor
    u: Tensor
    v: Tensor
    vertex_ids: Tensor
    mesh_id: int
    segm: Tensor

    def __init__(self, annotation: dict[str, Any], cleanup: bool = False) -> None:
        valid, reason = self.validate_annotation(annotation)
        if not valid:
            raise ValueError(f"not a DensePose annotation: {reason}")
        floats = {"x": self.X_KEY, "y": self.Y_KEY, "i": self.I_KEY, "u": self.U_KEY, "v": self.V_KEY}
        for name, key in floats.items():
            if key in annotation:
                setattr(self, name, torch.as_tensor(annotation[key], dtype=torch.float32))
        if self.VERTEX_IDS_KEY in annotation and self.MESH_NAME_KEY in annotation:
            self.vertex_ids = torch.as_tensor(annotation[self.VERTEX_IDS_KEY], dtype=torch.int64)
            self.mesh_id = MeshCatalog.get_mesh_id(annotation[self.MESH_NAME_KEY])
        if self.S_KEY in annotation:
            self.segm = self.extract_segmentation_mask(annotation)
        self.device = self.x.device
        if cleanup:
            self.cleanup_annotation(annotation)

    def to(self, device: torch.device) -> "DensePoseDataRelative":
        """Return the annotation on another device; the same object if it is there already."""
        if self.device == device:
            return self
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        moved.device = torch.device(device)
        return moved

    @staticmethod
    def extract_segmentation_mask(annotation: dict[str, Any]) -> Tensor:
        """Read the part labels of an annotation.

        Args:
            annotation: its ``dp_masks`` is a list of 14 RLEs, empty for invisible parts; or one RLE of the whole
                body; or a tensor of labels.

        Returns:
            [256, 256] float32 labels; a tensor is returned unchanged.
        """
        parts = annotation[DensePoseDataRelative.S_KEY]
        if isinstance(parts, Tensor):
            return parts
        segm = torch.zeros((DensePoseDataRelative.MASK_SIZE,) * 2)
        for label, rle in enumerate([parts] if isinstance(parts, dict) else parts, start=1):
            if rle:
                segm[torch.from_numpy(coco_mask.decode(rle)) > 0] = label
        return segm

    @staticmethod
    def validate_annotation(annotation: dict[str, Any]) -> tuple[bool, str | None]:
        """Check that an annotation has points, with charts or with vertices.

        Returns:
            Whether it is valid, and what is missing if not.
        """
        keys = DensePoseDataRelative
        chart = {keys.X_KEY, keys.Y_KEY, keys.I_KEY, keys.U_KEY, keys.V_KEY} - annotation.keys()
        embedding = {keys.X_KEY, keys.Y_KEY, keys.VERTEX_IDS_KEY, keys.MESH_NAME_KEY} - annotation.keys()
        if not chart or not embedding:
            return True, None
        return False, f"charts need {sorted(chart)}; surface embeddings need {sorted(embedding)}"

    @staticmethod
    def cleanup_annotation(annotation: dict[str, Any]) -> None:
        """Remove the keys of DensePose from an annotation, in place."""
        keys = DensePoseDataRelative
        for key in (
            *(keys.X_KEY, keys.Y_KEY, keys.I_KEY, keys.U_KEY, keys.V_KEY),
            *(keys.S_KEY, keys.VERTEX_IDS_KEY, keys.MESH_NAME_KEY),
        ):
            annotation.pop(key, None)

    def apply_transform(
        self, transforms: TransformList, densepose_transform_data: DensePoseTransformData
    ) -> None:
        """Transform the annotation in place.

        Only horizontal flips and rotations matter, since others keep positions relative to the box. Flips are assumed
        to precede rotations.

        Args:
            transforms: transforms of the image.
            densepose_transform_data: symmetries of charts and labels.
        """
        if sum(isinstance(t, HFlipTransform) for t in transforms.transforms) % 2 == 1:
            self._flip(densepose_transform_data)
        for transform in transforms.transforms:
            if isinstance(transform, RotationTransform):
                self._rotate(transform)

    def _flip(self, symmetries: DensePoseTransformData) -> None:
        self.x = self.MASK_SIZE - self.x
        if hasattr(self, "vertex_ids"):
            mesh = load_mesh_symmetry(MeshCatalog[MeshCatalog.get_mesh_name(self.mesh_id)].symmetry)
            if mesh is not None:  # otherwise the mesh has no left and right
                self.vertex_ids = mesh["vertex_transforms"].to(self.device)[self.vertex_ids]
        if hasattr(self, "i"):
            tables = symmetries.uv_symmetries
            chart = self.i.long()
            place = ((chart - 1).clamp(min=0), (self.v * 255).long(), (self.u * 255).long())
            self.u = torch.where(chart > 0, tables["U_transforms"][place].to(self.u), self.u)
            self.v = torch.where(chart > 0, tables["V_transforms"][place].to(self.v), self.v)
            self.i = _look_up(symmetries.point_label_symmetries, self.i)
        if hasattr(self, "segm"):
            self.segm = _look_up(symmetries.mask_label_symmetries, self.segm.flip(1))

    def _rotate(self, rotation: RotationTransform) -> None:
        """Rotate as if the box were the whole image."""
        scale = np.asarray([rotation.w, rotation.h]) / self.MASK_SIZE
        points = torch.stack([self.x, self.y], dim=1).cpu().numpy() * scale
        turned = torch.as_tensor(rotation.apply_coords(points) / scale).to(self.x)
        self.x, self.y = turned.unbind(1)
        if hasattr(self, "segm"):
            image = F.interpolate(self.segm[None, None], (rotation.h, rotation.w))[0, 0]
            labels = torch.as_tensor(rotation.apply_segmentation(image.cpu().numpy())).to(self.segm)
            self.segm = F.interpolate(labels[None, None], (self.MASK_SIZE,) * 2)[0, 0]


def _look_up(table: list[int], labels: Tensor) -> Tensor:
    return torch.as_tensor(table, device=labels.device)[labels.long()].to(labels.dtype)
