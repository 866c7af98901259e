"""Mirroring embedding outputs."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ..data.meshes.catalog import MeshCatalog
from ..structures.cse import DensePoseEmbeddingPredictorOutput
from ..structures.mesh import load_mesh_symmetry
from ..structures.transform_data import DensePoseTransformData

__all__ = ["densepose_embedding_predictor_output_hflip"]

# Number of pixels whose distances to all vertices are in memory at once.
_PIXELS_AT_ONCE = 2048


def densepose_embedding_predictor_output_hflip(
    densepose_predictor_output: DensePoseEmbeddingPredictorOutput,
    transform_data: DensePoseTransformData,
    embedder: Callable[[str], Tensor],
    mesh_names: Sequence[str],
) -> DensePoseEmbeddingPredictorOutput:
    """Mirror embedding outputs: every map is reversed, and a pixel gets the embedding of the opposite vertex.

    A pixel means the vertex whose embedding has the smallest angle to its own. Meshes without symmetry data
    have no opposite vertices; their maps are only reversed.

    Args:
        densepose_predictor_output: output for N instances; not changed.
        transform_data: symmetries of charts; unused.
        embedder: gives the [V, E] embeddings of the vertices of a mesh.
        mesh_names: mesh of each instance.
    """
    output: Any = densepose_predictor_output
    if len(mesh_names) != len(output):
        raise ValueError(f"expected one mesh name per instance, got {len(mesh_names)} for {len(output)}")
    values = {f.name: getattr(output, f.name) for f in fields(output)}
    mirrored = {name: maps.flip(3) for name, maps in values.items() if maps is not None}
    embedding = mirrored["embedding"]  # a new tensor, which may be changed
    for name in set(mesh_names):
        symmetry = load_mesh_symmetry(MeshCatalog[name].symmetry)
        if symmetry is None:
            continue
        vertices = embedder(name).to(embedding)  # [V, E]
        opposite = vertices[symmetry["vertex_transforms"].to(vertices.device)]
        rows = [i for i, other in enumerate(mesh_names) if other == name]
        pixels = embedding[rows].movedim(1, 3)  # [n, S, S, E]
        found = [_replace(part, vertices, opposite) for part in pixels.flatten(0, 2).split(_PIXELS_AT_ONCE)]
        embedding[rows] = torch.cat(found).view_as(pixels).movedim(3, 1)
    return replace(output, **mirrored)


def _replace(pixels: Tensor, vertices: Tensor, opposite: Tensor) -> Tensor:
    """Replace vectors [P, E] by the embedding opposite to the nearest vertex, with unchanged length."""
    directions = torch.nn.functional.normalize(vertices, dim=1)
    nearest = (pixels @ directions.T).argmax(dim=1)
    unit = torch.nn.functional.normalize(opposite, dim=1)[nearest]
    return unit * pixels.norm(dim=1, keepdim=True)
