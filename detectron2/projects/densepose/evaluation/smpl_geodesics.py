"""Distances on the surface of the human model SMPL between points given by chart coordinates.

Reference: Güler et al., DensePose: Dense Human Pose Estimation In The Wild, https://arxiv.org/abs/1802.00434
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectron2.checkpoint import read_checkpoint_file
from detectron2.utils.file_io import PathManager

from ..data.datasets.coco import DENSEPOSE_METADATA_URL_PREFIX

__all__ = ["MEAN_DISTANCE", "SmplGeodesics", "load_smpl_geodesics", "mean_distances", "similarity"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MEAN_DISTANCE = 0.255
"""mean geodesic distance within a part, in metres, if the part is unknown"""

# The same for each of 8 coarse parts (torso, hands, ...), and the coarse part of each chart; 0 is background.
_MEAN_DISTANCES = np.asarray([0, 0.351, 0.107, 0.126, 0.237, 0.173, 0.142, 0.128, 0.150])
_COARSE_PART = np.asarray([0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8, 8])


def mean_distances(charts: object) -> Floats:
    """Return the mean geodesic distance within the coarse part of each chart, in metres.

    Args:
        charts: numbers 0 to 24, of any shape.
    """
    return _MEAN_DISTANCES[_COARSE_PART[np.asarray(charts, dtype=np.int64)]]


def similarity(distances: Any, scale: Any) -> Any:
    """Convert geodesic distances to similarities: 1 for distance 0, 0 for infinite distance.

    Args:
        distances: array or tensor, in metres.
        scale: mean distance, of the same shape or one number.
    """
    exponent = -(distances**2) / (2 * scale**2)
    return exponent.exp() if isinstance(exponent, torch.Tensor) else np.exp(exponent)


@dataclass
class SmplGeodesics:
    """The finely subdivided SMPL surface with V vertices, and distances on the coarser surface.

    Attributes:
        chart_ids: (V,) chart 1 to 24 of each vertex.
        uv: (V, 2) chart coordinates of each vertex.
        coarse_ids: (V,) number, from 1 on, of the vertex of the coarser surface.
        distances: flat lower triangle of the matrix of distances on the coarser surface, in metres.
    """

    chart_ids: Ints
    uv: Floats
    coarse_ids: Ints
    distances: npt.NDArray[Any]

    def closest_vertices(self, charts: object, u: Any, v: Any) -> Ints:
        """Find the vertices that are closest to points, in the coordinates of their charts.

        Args:
            charts: (K,) charts of the points.
            u: (K,) first coordinates.
            v: (K,) second coordinates.

        Returns:
            (K,) vertices, numbered from 1 on; -1 for a point on no chart.
        """
        charts = np.asarray(charts).astype(np.int64)
        points = torch.from_numpy(np.stack([u, v], axis=1).astype(np.float64))
        found = np.full(len(charts), -1, dtype=np.int64)
        for chart in np.unique(charts[charts > 0]):
            vertices = np.flatnonzero(self.chart_ids == chart)
            own = charts == chart
            # Differences, not products: neighbouring vertices are close together.
            gaps = torch.cdist(
                points[torch.from_numpy(own)],
                torch.from_numpy(self.uv[vertices]),
                compute_mode="donot_use_mm_for_euclid_dist",
            )
            found[own] = vertices[gaps.argmin(dim=1).numpy()] + 1
        return found

    def to_coarse(self, vertices: Ints) -> Ints:
        """Map vertices, numbered from 1 on, to those of the coarser surface; -1 becomes 0."""
        return np.where(vertices > 0, self.coarse_ids[np.maximum(vertices, 1) - 1], 0)

    def distances_between(self, first: object, second: object) -> Floats:
        """Look up distances on the coarser surface.

        Args:
            first: (K,) vertices, numbered from 1 on; 0 = none.
            second: (K,) vertices, numbered likewise.

        Returns:
            (K,) distances in metres; infinite if either is none.
        """
        first, second = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
        high, low = np.maximum(first, second) - 1, np.minimum(first, second) - 1
        known = low >= 0
        apart = known & (high > low)
        result = np.where(known, 0.0, np.inf)
        result[apart] = self.distances[high[apart] * (high[apart] - 1) // 2 + low[apart]]
        return result


def load_smpl_geodesics() -> SmplGeodesics:
    """Load the published surface and distances, about 1.5 GB, and cache them.

    Raises:
        ImportError: SciPy is not installed, which is needed for MATLAB files.
    """
    names = ("SMPL_subdiv.mat", "SMPL_SUBDIV_TRANSFORM.mat", "Pdist_matrix.pkl")
    return _load(*(PathManager.get_local_path(DENSEPOSE_METADATA_URL_PREFIX + name) for name in names))


@lru_cache(maxsize=1)
def _load(surface_file: str, coarse_file: str, distance_file: str) -> SmplGeodesics:
    try:
        import scipy.io
    except ImportError as error:
        raise ImportError("MATLAB files need SciPy: pip install 'detectron2[densepose]'") from error
    surface = scipy.io.loadmat(surface_file)
    return SmplGeodesics(
        chart_ids=surface["Part_ID_subdiv"].reshape(-1).astype(np.int64),
        uv=np.stack([surface[k].reshape(-1) for k in ("U_subdiv", "V_subdiv")], axis=1).astype(np.float64),
        coarse_ids=scipy.io.loadmat(coarse_file)["index"].reshape(-1).astype(np.int64),
        distances=np.asarray(read_checkpoint_file(distance_file)["Pdist_matrix"]).reshape(-1),
    )
