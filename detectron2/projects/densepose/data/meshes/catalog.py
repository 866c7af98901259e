"""The catalog of meshes: the files of the surfaces of people, cats, ..."""

import dataclasses
import logging
from collections import UserDict
from collections.abc import Iterable
from dataclasses import dataclass

from detectron2.utils.suggest import did_you_mean

from ..utils import maybe_prepend_base_path

__all__ = ["MeshCatalog", "MeshInfo", "register_mesh", "register_meshes"]

logger = logging.getLogger(__name__)


@dataclass
class MeshInfo:
    """Files of one mesh: paths or URLs of pickles.

    Attributes:
        name: name of the mesh.
        data: vertices and faces.
        geodists: matrix of geodesic distances between all vertices.
        symmetry: mirror image of each vertex.
        texcoords: texture coordinates of each vertex, in [0, 1].
    """

    name: str
    data: str
    geodists: str | None = None
    symmetry: str | None = None
    texcoords: str | None = None


class _MeshCatalog(UserDict):
    """Mesh name -> :class:`MeshInfo`. Each name also has a number, fixed within a process."""

    def __init__(self) -> None:
        super().__init__()
        self.mesh_ids: dict[str, int] = {}
        self.mesh_names: dict[int, str] = {}
        self.max_mesh_id = -1

    def __setitem__(self, key: str, item: MeshInfo) -> None:
        if key in self:
            logger.warning("The mesh %r was %s and is now %s", key, self[key], item)
        elif key not in self.mesh_ids:
            self.max_mesh_id += 1
            self.mesh_ids[key] = self.max_mesh_id
            self.mesh_names[self.max_mesh_id] = key
        super().__setitem__(key, item)

    def __missing__(self, key: str) -> MeshInfo:
        raise KeyError(f"no mesh is registered as {key!r}. {did_you_mean(str(key), self.data)}")

    def get_mesh_id(self, shape_name: str) -> int:
        """Return the number of a mesh.

        Raises:
            KeyError: no mesh has this name.
        """
        self[shape_name]
        return self.mesh_ids[shape_name]

    def get_mesh_name(self, mesh_id: int) -> str:
        """Return the name of the mesh with this number.

        Raises:
            KeyError: no mesh has this number.
        """
        if mesh_id not in self.mesh_names:
            raise KeyError(f"no mesh has the number {mesh_id}; numbers are 0 to {self.max_mesh_id}")
        return self.mesh_names[mesh_id]


MeshCatalog = _MeshCatalog()


def register_mesh(mesh_info: MeshInfo, base_path: str | None) -> None:
    """Add a mesh to the catalog, replacing one of the same name.

    Args:
        mesh_info: name and files of the mesh.
        base_path: folder or URL to which paths are relative; None = no change.
    """
    paths = {
        field.name: maybe_prepend_base_path(base_path, path)
        for field in dataclasses.fields(mesh_info)
        if field.name != "name" and (path := getattr(mesh_info, field.name)) is not None
    }
    MeshCatalog[mesh_info.name] = dataclasses.replace(mesh_info, **paths)


def register_meshes(mesh_infos: Iterable[MeshInfo], base_path: str | None) -> None:
    """Register several meshes, see :func:`register_mesh`."""
    for mesh_info in mesh_infos:
        register_mesh(mesh_info, base_path)
