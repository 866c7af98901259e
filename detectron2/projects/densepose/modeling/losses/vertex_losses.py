"""Base of losses that compare pixels with mesh vertices."""

from abc import ABC, abstractmethod

from torch import Tensor

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ...data.meshes.catalog import MeshCatalog
from ...structures.cse import DensePoseEmbeddingPredictorOutput
from ..cse.embedder import Embedder
from ..cse.utils import normalize_embeddings, squared_euclidean_distance_matrix
from .embed_utils import PackedCseAnnotations
from .utils import BilinearInterpolationHelper

__all__ = ["VertexLoss"]


class VertexLoss(ABC):
    """A loss per mesh, from the likelihood of each vertex for each annotated pixel.

    The likelihood decreases with the squared distance between the embeddings of pixel and vertex.

    Args:
        cfg: the whole config; reads ``MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDING_DIST_GAUSS_SIGMA``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.embdist_gauss_sigma = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDING_DIST_GAUSS_SIGMA

    @abstractmethod
    def _mesh_loss(self, logits: Tensor, vertices: Tensor, mesh_name: str) -> Tensor:
        """Compute the loss of one mesh.

        Args:
            logits: [P, V] logits of the vertices for each pixel.
            vertices: [P] true vertices.
            mesh_name: name of the mesh.
        """

    def __call__(
        self,
        proposals_with_gt: list[Instances],
        densepose_predictor_outputs: DensePoseEmbeddingPredictorOutput,
        packed_annotations: PackedCseAnnotations,
        interpolator: BilinearInterpolationHelper,
        embedder: Embedder,
    ) -> dict[str, Tensor]:
        """Compute the losses of all meshes.

        Args:
            proposals_with_gt: proposals of each image; unused.
            densepose_predictor_outputs: ``embedding`` of all proposals.
            packed_annotations: their annotations.
            interpolator: reads predictions at annotated points.
            embedder: vertex embeddings.

        Returns:
            The loss by mesh name, 0 for meshes without annotated pixels.
        """
        losses = self.fake_values(densepose_predictor_outputs, embedder)
        pixels = interpolator.extract_channels_at_points(densepose_predictor_outputs.embedding)
        meshes = packed_annotations.vertex_mesh_ids_gt
        for mesh_id in meshes.unique().tolist():
            chosen = interpolator.j_valid & (meshes == mesh_id)
            if not chosen.any():
                continue
            name = MeshCatalog.get_mesh_name(mesh_id)
            distances = squared_euclidean_distance_matrix(
                normalize_embeddings(pixels[chosen]), embedder(name)
            )
            logits = -distances / self.embdist_gauss_sigma
            losses[name] = self._mesh_loss(logits, packed_annotations.vertex_ids_gt[chosen], name)
        return losses

    def fake_values(
        self, densepose_predictor_outputs: DensePoseEmbeddingPredictorOutput, embedder: Embedder
    ) -> dict[str, Tensor]:
        """Return losses of 0 for all meshes, attached to predictions and embeddings.

        Args:
            densepose_predictor_outputs: outputs with ``embedding``.
            embedder: vertex embeddings.
        """
        return {
            name: self.fake_value(densepose_predictor_outputs, embedder, name)
            for name in sorted(embedder.mesh_names)
        }

    def fake_value(
        self,
        densepose_predictor_outputs: DensePoseEmbeddingPredictorOutput,
        embedder: Embedder,
        mesh_name: str,
    ) -> Tensor:
        """Return a loss of 0, attached to predictions and embeddings.

        Args:
            densepose_predictor_outputs: outputs with ``embedding``.
            embedder: vertex embeddings.
            mesh_name: name of a mesh.
        """
        return (densepose_predictor_outputs.embedding.sum() + embedder(mesh_name).sum()) * 0
