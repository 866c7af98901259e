"""Surface meshes whose parts are read on first access."""

from dataclasses import astuple
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from detectron2.checkpoint import read_checkpoint_file
from detectron2.utils.file_io import PathManager

from ..data.meshes.catalog import MeshCatalog, MeshInfo

__all__ = ["Mesh", "create_mesh", "load_mesh_auxiliary_data", "load_mesh_data", "load_mesh_symmetry"]

_CPU = torch.device("cpu")
_TENSORS = ("vertices", "faces", "geodists", "texcoords")


class Mesh:
    """A triangle mesh with V vertices and F faces.

    Missing parts are read from the files of ``mesh_info`` on first access; they are None without a file.

    Args:
        vertices: [V, 3] coordinates.
        faces: [F, 3] numbers of the vertices of each triangle.
        geodists: [V, V] geodesic distances between vertices.
        symmetry: ``vertex_transforms``, [V] int64, is the mirror image of each vertex.
        texcoords: [V, 2] texture coordinates.
        mesh_info: files of the mesh.
        device: device of the tensors; None = that of the given tensors, or the CPU.

    Raises:
        ValueError: neither vertices nor files are given, or a tensor is on another device.
    """

    def __init__(
        self,
        vertices: Tensor | None = None,
        faces: Tensor | None = None,
        geodists: Tensor | None = None,
        symmetry: dict[str, Tensor] | None = None,
        texcoords: Tensor | None = None,
        mesh_info: MeshInfo | None = None,
        device: torch.device | None = None,
    ) -> None:
        if vertices is None and mesh_info is None:
            raise ValueError("Mesh needs vertices or mesh_info, got neither")
        given = dict(zip(_TENSORS, (vertices, faces, geodists, texcoords)))
        devices = {name: t.device for name, t in given.items() if t is not None}
        self.device = torch.device(device or next(iter(devices.values()), _CPU))
        if any(d != self.device for d in devices.values()):
            raise ValueError(f"the tensors of a Mesh must be on {self.device}, got {devices}")
        self.mesh_info = mesh_info
        self._vertices = vertices
        self._faces = faces
        self._geodists = geodists
        self._symmetry = symmetry
        self._texcoords = texcoords

    def to(self, device: torch.device) -> "Mesh":
        """Return the mesh on another device; the same object if it is there already. Parts that have not been read stay unread."""
        if device == self.device:
            return self
        moved: dict[str, Any] = {}
        for name in _TENSORS:
            tensor = getattr(self, "_" + name)
            moved[name] = None if tensor is None else tensor.to(device)
        symmetry = self._symmetry and {k: v.to(device) for k, v in self._symmetry.items()}
        return Mesh(**moved, symmetry=symmetry, mesh_info=self.mesh_info, device=device)

    @property
    def vertices(self) -> Tensor | None:
        """[V, 3] float32 coordinates."""
        if self._vertices is None and self.mesh_info is not None:
            self._vertices = load_mesh_data(self.mesh_info.data, "vertices", self.device)
        return self._vertices

    @property
    def faces(self) -> Tensor | None:
        """[F, 3] vertices of each triangle; float32 if read from a file."""
        if self._faces is None and self.mesh_info is not None:
            self._faces = load_mesh_data(self.mesh_info.data, "faces", self.device)
        return self._faces

    @property
    def geodists(self) -> Tensor | None:
        """[V, V] float32 geodesic distances."""
        if self._geodists is None and self.mesh_info is not None:
            self._geodists = load_mesh_auxiliary_data(self.mesh_info.geodists, self.device)
        return self._geodists

    @property
    def symmetry(self) -> dict[str, Tensor] | None:
        """``vertex_transforms``: [V] int64 mirror images of the vertices."""
        if self._symmetry is None and self.mesh_info is not None:
            self._symmetry = load_mesh_symmetry(self.mesh_info.symmetry, self.device)
        return self._symmetry

    @property
    def texcoords(self) -> Tensor | None:
        """[V, 2] float32 texture coordinates."""
        if self._texcoords is None and self.mesh_info is not None:
            self._texcoords = load_mesh_auxiliary_data(self.mesh_info.texcoords, self.device)
        return self._texcoords

    def get_geodists(self) -> Tensor | None:
        """Return ``geodists``."""
        return self.geodists


def _read(fpath: str) -> Any:
    return read_checkpoint_file(PathManager.get_local_path(fpath))


def load_mesh_data(mesh_fpath: str | None, field: str, device: torch.device | None = None) -> Tensor | None:
    """Read one entry of the main file of a mesh.

    Args:
        mesh_fpath: path or URL of a pickled dictionary of arrays; None = none.
        field: ``"vertices"`` or ``"faces"``.
        device: device of the result; None = the CPU.

    Returns:
        The array as float32; None without a file.
    """
    if mesh_fpath is None:
        return None
    return torch.as_tensor(_read(mesh_fpath)[field], dtype=torch.float32, device=device)


def load_mesh_auxiliary_data(fpath: str | None, device: torch.device | None = None) -> Tensor | None:
    """Read a pickled array, such as geodesic distances, as float32; None without a file.

    Args:
        fpath: path or URL; None = none.
        device: device of the result; None = the CPU.
    """
    if fpath is None:
        return None
    return torch.as_tensor(_read(fpath), dtype=torch.float32, device=device)


@lru_cache
def load_mesh_symmetry(
    symmetry_fpath: str | None, device: torch.device | None = None
) -> dict[str, Tensor] | None:
    """Read the mirror image of each vertex. Every file is read only once.

    Args:
        symmetry_fpath: path or URL of a pickled dictionary of index arrays; None = none.
        device: device of the result; None = the CPU.

    Returns:
        ``vertex_transforms``: [V] int64; None without a file.
    """
    if symmetry_fpath is None:
        return None
    tables = _read(symmetry_fpath)
    return {k: torch.as_tensor(v, dtype=torch.int64, device=device) for k, v in tables.items()}


def create_mesh(mesh_name: str, device: torch.device | None = None) -> Mesh:
    """Return a mesh of ``MeshCatalog``, the same object each time.

    Args:
        mesh_name: name of the mesh.
        device: device of the mesh; None = the CPU.
    """
    return _mesh_of_files(astuple(MeshCatalog[mesh_name]), device)


@lru_cache
def _mesh_of_files(info: tuple[Any, ...], device: torch.device | None) -> Mesh:
    """Cache meshes by their files, so that a mesh registered again is also read again."""
    return Mesh(mesh_info=MeshInfo(*info), device=device)
