"""Loss on the vertex of each annotated pixel."""

import torch.nn.functional as F
from torch import Tensor

from ...data.meshes.catalog import MeshCatalog
from ..cse.utils import normalize_embeddings, squared_euclidean_distance_matrix
from .embed_utils import PackedCseAnnotations
from .utils import BilinearInterpolationHelper
from .vertex_losses import VertexLoss

# The first five are defined elsewhere; older code imports them from here.
__all__ = [
    "BilinearInterpolationHelper",
    "EmbeddingLoss",
    "MeshCatalog",
    "PackedCseAnnotations",
    "normalize_embeddings",
    "squared_euclidean_distance_matrix",
]


class EmbeddingLoss(VertexLoss):
    """Mean cross-entropy of the annotated vertex among all vertices.

    Reference: Continuous Surface Embeddings, https://arxiv.org/abs/2011.12438
    """

    def _mesh_loss(self, logits: Tensor, vertices: Tensor, mesh_name: str) -> Tensor:
        return F.cross_entropy(logits, vertices)
