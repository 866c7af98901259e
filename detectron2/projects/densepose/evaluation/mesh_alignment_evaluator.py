"""Agreement of the embeddings of different meshes.

Reference: Neverova et al., Continuous Surface Embeddings, https://arxiv.org/abs/2011.12438
"""

import json
from collections.abc import Sequence
from statistics import mean
from typing import Any

import torch

from detectron2.utils.file_io import PathManager

from ..data.datasets.coco import DENSEPOSE_METADATA_URL_PREFIX
from ..structures.mesh import create_mesh
from .smpl_geodesics import MEAN_DISTANCE, similarity

__all__ = ["MeshAlignmentEvaluator"]


class MeshAlignmentEvaluator:
    """Compares annotated key vertices, such as the nose, with those found by embeddings on another mesh.

    Args:
        embedder: returns the vertex embeddings of a mesh.
        mesh_names: meshes to compare; None or empty = all meshes of the embedder.
    """

    def __init__(self, embedder: Any, mesh_names: Sequence[str] | None) -> None:
        self.embedder = embedder
        self.mesh_names = list(mesh_names or sorted(embedder.mesh_names))
        with PathManager.open(DENSEPOSE_METADATA_URL_PREFIX + "cse/mesh_keyvertices_v0.json", "r") as f:
            self.mesh_keyvertices: dict[str, dict[str, int]] = json.load(f)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float, dict[str, dict[str, float]]]:
        """Compute geodesic errors and similarities.

        Returns:
            The mean error, in metres; the mean similarity, in [0, 1]; and both for each mesh whose key vertices
            were searched on all others: ``{"GE": {mesh: ...}, "GPS": {mesh: ...}}``. With fewer than two meshes
            they are NaN.
        """
        errors: dict[str, float] = {}
        similarities: dict[str, float] = {}
        for source in self.mesh_names:
            distances = [self._distances(source, target) for target in self.mesh_names if target != source]
            if distances:
                errors[source] = mean(float(d.mean()) for d in distances)
                similarities[source] = mean(float(similarity(d, MEAN_DISTANCE).mean()) for d in distances)
        if not errors:
            return float("nan"), float("nan"), {"GE": {}, "GPS": {}}
        return mean(errors.values()), mean(similarities.values()), {"GE": errors, "GPS": similarities}

    def _distances(self, source: str, target: str) -> torch.Tensor:
        """Return geodesic distances on ``target`` between its key vertices and those found for ``source``."""
        names = self.mesh_keyvertices[source]
        embeddings = self.embedder(target)
        found = (self.embedder(source)[list(names.values())] @ embeddings.T).argmax(dim=1).cpu()
        wanted = [self.mesh_keyvertices[target][name] for name in names]
        geodists = create_mesh(target, torch.device("cpu")).geodists
        assert geodists is not None, f"the mesh {target} has no geodesic distances"
        return geodists[found, wanted]
