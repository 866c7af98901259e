"""Consistency of the embeddings of two meshes."""

import random
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode

from ...structures.mesh import create_mesh
from ..cse.embedder import Embedder
from .utils import sample_random_indices

__all__ = ["ShapeToShapeCycleLoss"]


class ShapeToShapeCycleLoss(nn.Module):
    """Cycle consistency: mapping a vertex to another mesh and back by embeddings should end near the same vertex.

    Each call uses the next pair of meshes, and cycles through all pairs.

    Args:
        cfg: the whole config; reads ``EMBEDDERS`` and ``SHAPE_TO_SHAPE_CYCLE_LOSS`` of ``MODEL.ROI_DENSEPOSE_HEAD.CSE``.

    Reference: Discovering Relationships between Object Categories via Universal Canonical Maps,
    https://arxiv.org/abs/2106.09758
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
        self.shape_names = list(node.EMBEDDERS)
        self.norm_p = node.SHAPE_TO_SHAPE_CYCLE_LOSS.NORM_P
        self.temperature = node.SHAPE_TO_SHAPE_CYCLE_LOSS.TEMPERATURE
        self.max_num_vertices = node.SHAPE_TO_SHAPE_CYCLE_LOSS.MAX_NUM_VERTICES
        self._pairs_left: list[tuple[str, str]] = []

    def _next_pair(self) -> tuple[str, str]:
        if not self._pairs_left:
            self._pairs_left = list(combinations(self.shape_names, 2))
            random.shuffle(self._pairs_left)
        return self._pairs_left.pop()

    def forward(self, embedder: Embedder) -> Tensor:
        """Compute the loss of the next pair of meshes; 0 with a single mesh.

        Args:
            embedder: vertex embeddings.
        """
        if len(self.shape_names) < 2:
            return self.fake_value(embedder)
        (points_1, distances_1), (points_2, distances_2) = map(
            lambda name: self._sample(embedder, name), self._next_pair()
        )
        similarity = points_1 @ points_2.T / self.temperature
        there, back = F.softmax(similarity, dim=1), F.softmax(similarity.T, dim=1)
        around_1 = torch.linalg.vector_norm(distances_1 * (there @ back), ord=self.norm_p)
        around_2 = torch.linalg.vector_norm(distances_2 * (back @ there), ord=self.norm_p)
        return around_1 + around_2

    def _sample(self, embedder: Embedder, name: str) -> tuple[Tensor, Tensor]:
        """Return embeddings [n, E] of some vertices, and geodesic distances [n, n] between them."""
        points = embedder(name)
        distances = create_mesh(name, points.device).geodists
        if distances is None:
            raise ValueError(f"ShapeToShapeCycleLoss needs geodesic distances; mesh {name!r} has none")
        rows = sample_random_indices(len(points), self.max_num_vertices, points.device)
        if rows is None:
            return points, distances
        return points[rows], distances[rows][:, rows]

    def fake_value(self, embedder: Embedder) -> Tensor:
        """Return 0, attached to all embeddings.

        Args:
            embedder: vertex embeddings.
        """
        return sum((embedder(name).sum() for name in self.shape_names), torch.zeros(())) * 0
