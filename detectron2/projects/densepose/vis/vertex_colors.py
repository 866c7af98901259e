"""One value per vertex of a mesh that changes smoothly over the surface, for colours."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.safe_pickle import UnsafeCheckpointError, restricted_load

from ..data.datasets.coco import DENSEPOSE_METADATA_URL_PREFIX
from ..structures.mesh import create_mesh

__all__ = ["get_xyz_vertex_embedding"]

_SMPL_MESH = "smpl_27554"


@lru_cache
def get_xyz_vertex_embedding(mesh_name: str, device: torch.device) -> torch.Tensor:
    """Return values of the vertices of a mesh that change smoothly over the surface.

    For the human mesh this is the first dimension of a published embedding that preserves geodesic distances, for other
    meshes the sum of the coordinates, normalised and squared.

    Args:
        mesh_name: name of the mesh.
        device: device of the result.

    Returns:
        (V,) float32 in [0, 1].
    """
    if mesh_name == _SMPL_MESH:
        path = PathManager.get_local_path(DENSEPOSE_METADATA_URL_PREFIX + "cse/mds_d=256.npy")
        embedding = np.asarray(read_object_array(path)[0])
        return _normalized(torch.as_tensor(embedding[:, 0], dtype=torch.float32, device=device))
    vertices = create_mesh(mesh_name, device).vertices
    assert vertices is not None
    return _normalized(vertices.sum(dim=1)) ** 2  # squared, to emphasise the extremities


def _normalized(values: torch.Tensor) -> torch.Tensor:
    values = values - values.min()
    return values / values.max().clamp(min=1e-12)


class _PickledDtype:
    """A pickled dtype, which may be of objects."""

    def __init__(self, kind: object, *_: object) -> None:
        self.kind = str(kind)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        self.kind = ("" if order in ("|", "=") else order) + self.kind


class _PickledArray:
    """A pickled array, which may be of objects."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, data = state[-4:]
        if isinstance(data, list):
            self.value = data
            return
        if dtype.kind.lstrip("<>")[:1] not in "biuf":
            raise UnsafeCheckpointError(f"arrays of dtype {dtype.kind!r} are not read")
        self.value = np.frombuffer(data, dtype=dtype.kind).reshape(shape, order="F" if fortran else "C")


def read_object_array(path: str) -> list[Any]:
    """Read the arrays in a ``.npy`` file that holds an array of arrays, without running code from it.

    Args:
        path: local file.

    Raises:
        UnsafeCheckpointError: the file contains anything else.
    """
    cores = ("numpy.core", "numpy._core")
    names: dict[str, Any] = {f"{c}.multiarray._reconstruct": lambda *_: _PickledArray() for c in cores}
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        header(file)
        outer = restricted_load(file, path, names={**names, "numpy.dtype": _PickledDtype})
    if not isinstance(outer, _PickledArray) or not isinstance(outer.value, list):
        raise UnsafeCheckpointError(f"{path} is not an array of arrays")
    return [item.value if isinstance(item, _PickledArray) else item for item in outer.value]
