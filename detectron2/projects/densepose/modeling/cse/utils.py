"""Distances between embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "get_closest_vertices_mask_from_ES",
    "normalize_embeddings",
    "squared_euclidean_distance_matrix",
]

# Number of pixels whose distances to all vertices are in memory at once.
_PIXELS_AT_ONCE = 10_000


def squared_euclidean_distance_matrix(pts1: Tensor, pts2: Tensor) -> Tensor:
    """Compute the squared distances between all pairs of points.

    Args:
        pts1: [M, E].
        pts2: [N, E].

    Returns:
        [M, N], never negative.
    """
    squares = pts1.square().sum(1)[:, None] + pts2.square().sum(1)
    return (squares - 2 * pts1 @ pts2.T).clamp(min=0)


def normalize_embeddings(embeddings: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Scale vectors to length 1.

    Args:
        embeddings: [N, E].
        epsilon: minimum divisor, for short vectors.
    """
    return F.normalize(embeddings, dim=1, eps=epsilon)


def get_closest_vertices_mask_from_ES(
    E: Tensor, S: Tensor, h: int, w: int, mesh_vertex_embeddings: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Find the mesh vertex of every pixel of a box.

    Args:
        E: [1, E, S, S] embeddings of pixels.
        S: [1, 2, S, S] logits of background and body.
        h: height of the box in pixels.
        w: width of the box in pixels.
        mesh_vertex_embeddings: [V, E].
        device: device of the result.

    Returns:
        [h, w] int64 vertices, 0 = background, and [h, w] bool, true for the body.
    """
    pixels = F.interpolate(E, (h, w), mode="bilinear", align_corners=False)[0]
    logits = F.interpolate(S, (h, w), mode="bilinear", align_corners=False)[0]
    mask = logits.argmax(0) > 0
    vertices = torch.zeros((h, w), dtype=torch.int64, device=device)
    found = [
        squared_euclidean_distance_matrix(part, mesh_vertex_embeddings).argmin(dim=1)
        for part in pixels[:, mask].T.split(_PIXELS_AT_ONCE)
    ]
    vertices[mask.to(device)] = torch.cat(found).to(device)
    return vertices, mask.to(device)
