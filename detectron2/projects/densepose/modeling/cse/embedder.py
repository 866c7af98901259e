"""Embeddings of the vertices of several meshes."""

from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.checkpoint import read_checkpoint_file
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from .vertex_direct_embedder import VertexDirectEmbedder
from .vertex_embedder import VertexEmbedder
from .vertex_feature_embedder import VertexFeatureEmbedder

__all__ = ["Embedder", "EmbedderType", "create_embedder"]


class EmbedderType(Enum):
    """Types of embedders.

    ``VERTEX_DIRECT``: a free embedding for each vertex. ``VERTEX_FEATURE``: a linear map of vertex features.
    """

    VERTEX_DIRECT = "vertex_direct"
    VERTEX_FEATURE = "vertex_feature"


def create_embedder(embedder_spec: Any, embedder_dim: int) -> nn.Module:
    """Build the embedder of one mesh.

    Args:
        embedder_spec: ``TYPE``, ``NUM_VERTICES``, ``IS_TRAINABLE``, ``INIT_FILE`` (empty: zeros), and, for vertex
            features, ``FEATURE_DIM`` and ``FEATURES_TRAINABLE``.
        embedder_dim: length of an embedding.

    Raises:
        ValueError: the type is unknown.
    """
    kind = EmbedderType(embedder_spec.TYPE)
    embedder: VertexEmbedder
    if kind is EmbedderType.VERTEX_DIRECT:
        embedder = VertexDirectEmbedder(embedder_spec.NUM_VERTICES, embedder_dim)
    else:
        embedder = VertexFeatureEmbedder(
            embedder_spec.NUM_VERTICES,
            embedder_spec.FEATURE_DIM,
            embedder_dim,
            embedder_spec.FEATURES_TRAINABLE,
        )
    if embedder_spec.INIT_FILE:
        embedder.load(embedder_spec.INIT_FILE)
    if not embedder_spec.IS_TRAINABLE:
        embedder.requires_grad_(False)
    return embedder


class Embedder(nn.Module):
    """Embeddings of the vertices of the meshes that a config names.

    The embedder of a mesh is the child ``embedder_<mesh name>``.

    Args:
        cfg: the whole config; reads ``EMBEDDERS`` and ``EMBED_SIZE`` of ``MODEL.ROI_DENSEPOSE_HEAD.CSE``.
    """

    DEFAULT_MODEL_CHECKPOINT_PREFIX = "roi_heads.embedder."

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
        self.mesh_names = set(node.EMBEDDERS)
        for name, spec in node.EMBEDDERS.items():
            self.add_module(f"embedder_{name}", create_embedder(spec, node.EMBED_SIZE))

    def forward(self, mesh_name: str) -> Tensor:
        """Return the embeddings of the V vertices of a mesh, [V, E], of length 1.

        Args:
            mesh_name: name of the mesh.
        """
        embeddings: Tensor = self.get_submodule(f"embedder_{mesh_name}")()
        return embeddings

    def has_embeddings(self, mesh_name: str) -> bool:
        """Return whether there are embeddings for a mesh.

        Args:
            mesh_name: name of the mesh.
        """
        return mesh_name in self.mesh_names

    def load_from_model_checkpoint(self, fpath: str, prefix: str | None = None) -> None:
        """Load the embeddings from the checkpoint of a whole model; missing tables stay unchanged.

        Args:
            fpath: path or URL of the checkpoint.
            prefix: prefix of the embedder's tables in the checkpoint.
        """
        prefix = self.DEFAULT_MODEL_CHECKPOINT_PREFIX if prefix is None else prefix
        content = read_checkpoint_file(PathManager.get_local_path(fpath))
        tables = {
            name.removeprefix(prefix): torch.as_tensor(value)
            for name, value in content.get("model", content).items()
            if name.startswith(prefix)
        }
        self.load_state_dict(tables, strict=False)
