"""A free embedding for each vertex."""

import torch
from torch import Tensor, nn

from .utils import normalize_embeddings
from .vertex_embedder import VertexEmbedder

__all__ = ["VertexDirectEmbedder"]


class VertexDirectEmbedder(VertexEmbedder):
    """Separate learned embeddings of all vertices.

    Args:
        num_vertices: V, vertices of the mesh.
        embed_dim: E, length of an embedding.
    """

    def __init__(self, num_vertices: int, embed_dim: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.zeros(num_vertices, embed_dim))

    def forward(self) -> Tensor:
        """Return the embeddings [V, E], of length 1."""
        return normalize_embeddings(self.embeddings)
