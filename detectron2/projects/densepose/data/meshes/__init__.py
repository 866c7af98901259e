"""Meshes of human and animal bodies by name."""

from . import builtin
from .catalog import MeshCatalog, MeshInfo, register_mesh, register_meshes

__all__ = ["MeshCatalog", "MeshInfo", "builtin", "register_mesh", "register_meshes"]
