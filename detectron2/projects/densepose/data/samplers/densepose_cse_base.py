"""Base of the samplers of points from predicted surface embeddings."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ...converters.base import IntTupleBox
from ...modeling.cse.utils import squared_euclidean_distance_matrix
from ...structures.data_relative import DensePoseDataRelative
from ..utils import get_class_to_mesh_name_mapping
from .densepose_base import DensePoseBaseSampler, points_in_box, resample_to_annotation

__all__ = ["DensePoseCSEBaseSampler"]


class DensePoseCSEBaseSampler(DensePoseBaseSampler):
    """Base of the samplers that convert predicted embeddings to annotated vertices.

    Args:
        cfg: config with the mesh of each class.
        use_gt_categories: use the class of the dataset instead of the predicted one.
        embedder: returns the vertex embeddings of a mesh.
        count_per_class: largest number of points per instance.
    """

    def __init__(
        self, cfg: CfgNode, use_gt_categories: bool, embedder: nn.Module, count_per_class: int = 8
    ) -> None:
        super().__init__(count_per_class)
        self.embedder = embedder
        self.class_to_mesh_name = get_class_to_mesh_name_mapping(cfg)
        self.use_gt_categories = use_gt_categories

    def _sample(self, instance: Instances, bbox_xywh: IntTupleBox) -> dict[str, Any]:
        classes = instance.dataset_classes if self.use_gt_categories else instance.pred_classes
        mesh_name = self.class_to_mesh_name[int(classes[0])]
        mask, embeddings, other_values = self._produce_mask_and_results(instance, bbox_xywh)
        rows, columns = mask.nonzero(as_tuple=True)
        count = min(self.count_per_class, len(rows))
        if count:
            chosen = self._produce_index_sample(other_values[:, rows, columns], count).to(rows.device)
            rows, columns = rows[chosen], columns[chosen]
        with torch.no_grad():
            vertices = self.embedder(mesh_name).to(embeddings.device)
            nearest = squared_euclidean_distance_matrix(embeddings[:, rows, columns].T, vertices).argmin(
                dim=1
            )
        return {
            **points_in_box(rows, columns, bbox_xywh),
            DensePoseDataRelative.VERTEX_IDS_KEY: nearest.tolist(),
            DensePoseDataRelative.MESH_NAME_KEY: mesh_name,
        }

    def _produce_mask_and_results(
        self, instance: Instances, bbox_xywh: IntTupleBox
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Resample the prediction of one detection to the pixels of its box.

        Returns:
            bool mask (H, W) of the body, embeddings (D, H, W), and values (C, H, W) by which
            ``_produce_index_sample`` chooses.
        """
        output = instance.pred_densepose
        embeddings = resample_to_box(output.embedding, bbox_xywh)
        mask = resample_to_box(output.coarse_segm, bbox_xywh).argmax(dim=0) > 0
        return mask, embeddings, embeddings.new_empty((0, *mask.shape))

    def _resample_mask(self, output: Any) -> Tensor:
        """Convert a prediction to the mask of an annotation, as labels of coarse segmentation (256, 256)."""
        return resample_to_annotation(output.coarse_segm)


def resample_to_box(maps: Tensor, bbox_xywh: IntTupleBox) -> Tensor:
    """Resample maps (1, C, S, S) to the pixels of a box, (C, H, W), bilinearly."""
    _, _, width, height = bbox_xywh
    size = (max(height, 1), max(width, 1))
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[0]
