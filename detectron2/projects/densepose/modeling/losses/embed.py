"""Loss on the vertex of each annotated pixel."""

import torch.nn.functional as F
from torch import Tensor

from .vertex_losses import VertexLoss

__all__ = ["EmbeddingLoss"]


class EmbeddingLoss(VertexLoss):
    """Mean cross-entropy of the annotated vertex among all vertices.

    Reference: Continuous Surface Embeddings, https://arxiv.org/abs/2011.12438
    """

    def _mesh_loss(self, logits: Tensor, vertices: Tensor, mesh_name: str) -> Tensor:
        return F.cross_entropy(logits, vertices)
