"""Consistency of pixels and the vertices of a mesh."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ...data.meshes.catalog import MeshCatalog
from ...structures.cse import DensePoseEmbeddingPredictorOutput
from ..cse.embedder import Embedder
from ..cse.utils import normalize_embeddings, squared_euclidean_distance_matrix
from .embed_utils import PackedCseAnnotations
from .mask import extract_data_for_mask_loss_from_matches
from .utils import sample_random_indices

__all__ = ["PixToShapeCycleLoss", "squared_euclidean_distance_matrix"]


class PixToShapeCycleLoss(nn.Module):
    """Cycle consistency: mapping a pixel to a mesh and back by embeddings should end near the same pixel.

    Args:
        cfg: the whole config; reads ``EMBEDDERS`` and ``PIX_TO_SHAPE_CYCLE_LOSS`` of ``MODEL.ROI_DENSEPOSE_HEAD.CSE``.

    Reference: Discovering Relationships between Object Categories via Universal Canonical Maps,
    https://arxiv.org/abs/2106.09758
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
        self.shape_names = list(node.EMBEDDERS)
        settings = node.PIX_TO_SHAPE_CYCLE_LOSS
        self.norm_p = settings.NORM_P
        self.use_all_meshes_not_gt_only = settings.USE_ALL_MESHES_NOT_GT_ONLY
        self.num_pixels_to_sample = settings.NUM_PIXELS_TO_SAMPLE
        self.temperature_pix_to_vertex = settings.TEMPERATURE_PIXEL_TO_VERTEX
        self.temperature_vertex_to_pix = settings.TEMPERATURE_VERTEX_TO_PIXEL

    def forward(
        self,
        proposals_with_gt: list[Instances],
        densepose_predictor_outputs: DensePoseEmbeddingPredictorOutput,
        packed_annotations: PackedCseAnnotations,
        embedder: Embedder,
    ) -> Tensor:
        """Compute the mean loss over instances and meshes.

        Args:
            proposals_with_gt: proposals of each image with ``gt_masks``, which select the pixels of the body.
            densepose_predictor_outputs: ``embedding`` and ``coarse_segm`` of all proposals.
            packed_annotations: their annotations, which name the meshes.
            embedder: vertex embeddings.
        """
        output = densepose_predictor_outputs
        names = self.shape_names
        if not self.use_all_meshes_not_gt_only:
            ids = packed_annotations.vertex_mesh_ids_gt.unique().tolist()
            names = [MeshCatalog.get_mesh_name(i) for i in ids]
        # Pass embeddings instead of the segmentation: either way, rows with a mask are selected.
        data = extract_data_for_mask_loss_from_matches(proposals_with_gt, output.embedding)
        if data.masks_gt is None or data.masks_est is None or not names:
            return self.fake_value(output, embedder)
        losses = []
        for name in names:
            vertices = embedder(name)
            for embedding, mask in zip(data.masks_est, data.masks_gt):
                losses.append(self._around(embedding, mask, vertices))
        return torch.stack(losses).mean()

    def _around(self, embedding: Tensor, mask: Tensor, vertices: Tensor) -> Tensor:
        """Compute the loss of one instance ([E, S, S] and [S, S]) and one mesh ([V, E])."""
        places = mask.nonzero()  # row and column of each pixel of the body
        chosen = sample_random_indices(len(places), self.num_pixels_to_sample, places.device)
        if chosen is not None:
            places = places[chosen]
        pixels = normalize_embeddings(embedding[:, places[:, 0], places[:, 1]].T)
        similarity = pixels @ vertices.T
        there = F.softmax(similarity / self.temperature_pix_to_vertex, dim=1)
        back = F.softmax(similarity.T / self.temperature_vertex_to_pix, dim=1)
        points = places.float()
        distances = torch.cdist(points, points).square()  # PIXEL_SIGMA has never had an effect on them
        return torch.linalg.vector_norm(distances * (there @ back), ord=self.norm_p)

    def fake_value(
        self, densepose_predictor_outputs: DensePoseEmbeddingPredictorOutput, embedder: Embedder
    ) -> Tensor:
        """Return 0, attached to predictions and all embeddings.

        Args:
            densepose_predictor_outputs: outputs with ``embedding``.
            embedder: vertex embeddings.
        """
        total = densepose_predictor_outputs.embedding.sum()
        return sum((embedder(name).sum() for name in self.shape_names), total) * 0
