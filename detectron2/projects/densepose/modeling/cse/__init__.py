"""Continuous surface embeddings: a vector for each vertex of a mesh.

Reference: Continuous Surface Embeddings, https://arxiv.org/abs/2011.12438
"""

from .embedder import Embedder
from .vertex_direct_embedder import VertexDirectEmbedder
from .vertex_feature_embedder import VertexFeatureEmbedder

__all__ = ["Embedder", "VertexDirectEmbedder", "VertexFeatureEmbedder"]
