"""Embeddings from features of the vertices."""

import torch
from torch import Tensor, nn

from .utils import normalize_embeddings
from .vertex_embedder import VertexEmbedder

__all__ = ["VertexFeatureEmbedder"]


class VertexFeatureEmbedder(VertexEmbedder):
    """Embeddings as a learned linear map of features, such as eigenfunctions of the surface's Laplacian.

    Args:
        num_vertices: V, vertices of the mesh.
        feature_dim: F, features of a vertex.
        embed_dim: E, length of an embedding.
        train_features: train the features too.
    """

    features: Tensor

    def __init__(
        self, num_vertices: int, feature_dim: int, embed_dim: int, train_features: bool = False
    ) -> None:
        super().__init__()
        features = torch.zeros(num_vertices, feature_dim)
        if train_features:
            self.features = nn.Parameter(features)
        else:
            self.register_buffer("features", features)
        self.embeddings = nn.Parameter(torch.zeros(feature_dim, embed_dim))

    def forward(self) -> Tensor:
        """Return the embeddings [V, E], of length 1."""
        return normalize_embeddings(self.features @ self.embeddings)
