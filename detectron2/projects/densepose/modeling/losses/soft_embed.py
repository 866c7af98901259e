"""Loss on the neighbourhood of the vertex of each annotated pixel."""

import torch.nn.functional as F
from torch import Tensor

from detectron2.config import CfgNode

from ...data.meshes.catalog import MeshCatalog
from ...structures.mesh import create_mesh
from ..cse.utils import normalize_embeddings, squared_euclidean_distance_matrix
from .embed_utils import PackedCseAnnotations
from .utils import BilinearInterpolationHelper
from .vertex_losses import VertexLoss

# The first five are defined elsewhere; older code imports them from here.
__all__ = [
    "BilinearInterpolationHelper",
    "MeshCatalog",
    "PackedCseAnnotations",
    "SoftEmbeddingLoss",
    "normalize_embeddings",
    "squared_euclidean_distance_matrix",
]


class SoftEmbeddingLoss(VertexLoss):
    """Mean cross-entropy with targets that decrease with the geodesic distance from the annotated vertex.

    Args:
        cfg: the whole config; reads ``EMBEDDING_DIST_GAUSS_SIGMA`` and ``GEODESIC_DIST_GAUSS_SIGMA`` of
            ``MODEL.ROI_DENSEPOSE_HEAD.CSE``.

    Reference: Continuous Surface Embeddings, https://arxiv.org/abs/2011.12438
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.geodist_gauss_sigma = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.GEODESIC_DIST_GAUSS_SIGMA

    def _mesh_loss(self, logits: Tensor, vertices: Tensor, mesh_name: str) -> Tensor:
        distances = create_mesh(mesh_name, logits.device).geodists
        if distances is None:
            raise ValueError(f"SoftEmbeddingLoss needs geodesic distances; mesh {mesh_name!r} has none")
        targets = F.softmax(-distances[vertices] / self.geodist_gauss_sigma, dim=1)
        return F.cross_entropy(logits, targets)
