"""Intersection of rotated rectangles by Green's theorem, without sorting or padding.

The area of the intersection of two rectangles A and B is the line integral of x dy along its boundary. The boundary
consists of the edges of A inside B and of the edges of B inside A; the part of an edge inside a rectangle is one
interval, found by clipping it to two slabs in the frame of that rectangle. Edge ``p + t d`` with ``t`` in
[t0, t1] contributes ``(t1 - t0) cross(p, d) / 2``.

Coincident edges (equal boxes, boxes that share a side) would be counted twice or never. A is therefore enlarged by one
part in 1e9, which places every such edge of B strictly inside A and changes areas by as little. This difference exceeds
rounding errors only in double precision, which is used throughout.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from detectron2.utils.errors import BadValue

__all__ = ["candidate_pairs", "pair_iou", "prepare", "rotated_iou", "split_pairs"]

# Signs of the corners in the order of the boundary, and of the edges from each to the next.
_CORNER = ((1.0, -1.0, -1.0, 1.0), (1.0, 1.0, -1.0, -1.0))
_EDGE = ((-2.0, 0.0, 2.0, 0.0), (0.0, -2.0, 0.0, 2.0))
# Sizes at which temporary arrays fit into the cache of a core; on GPUs, launches cost more than memory.
_PAIRS_AT_ONCE = {"cpu": 1 << 13, "": 1 << 18}
_CELLS_AT_ONCE = {"cpu": 1 << 17, "": 1 << 24}


def prepare(boxes: Tensor) -> Tensor:
    """Map [N, 5] boxes to [N, 6] of (x centre, y centre, half width, half height, cos, sin), in working precision.

    A box with one negative side is empty; one with two is rotated by 180 degrees.
    """
    # MPS has no float64; there, overlaps of nearly parallel boxes are accurate to three digits.
    boxes = boxes.to(torch.float32 if boxes.device.type == "mps" else torch.float64)
    turn = torch.deg2rad(boxes[:, 4:])
    half = boxes[:, 2:4].abs() / 2 * (boxes[:, 2:3] * boxes[:, 3:4] > 0)
    return torch.cat([boxes[:, :2], half, turn.cos(), turn.sin()], 1)


def _within(p: Tensor, d: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the interval of t with ``-half <= p + t d <= half``; an empty interval ends before its start."""
    # An edge parallel to the slab gets a tiny slope, so that its interval is all or nothing, without inf - inf.
    inverse = 1 / torch.where(d.abs() < 1e-30, 1e-30, d)
    limit, middle = half * inverse.abs(), p * inverse
    return -middle - limit, limit - middle


def _visible(p: tuple[Tensor, Tensor], d: tuple[Tensor, Tensor], half: tuple[Tensor, Tensor]) -> Tensor:
    """Compute the share, 0 to 1, of each edge ``p + t d`` inside the upright rectangle with given half sides, [4, P]."""
    x0, x1 = _within(p[0], d[0], half[0])
    y0, y1 = _within(p[1], d[1], half[1])
    return (torch.minimum(x1, y1).clamp(max=1) - torch.maximum(x0, y0).clamp(min=0)).clamp(min=0)


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the IoU of matched pairs.

    Args:
        a: [P, 6], from :func:`prepare`.
        b: [P, 6].

    Returns:
        [P], in working precision.
    """
    ax, ay, aw, ah, cos_a, sin_a = a.unbind(1)
    bx, by, bw, bh, cos_b, sin_b = b.unbind(1)
    area_a, area_b = 4 * aw * ah, 4 * bw * bh
    grow = 1 + (1e-9 if a.dtype == torch.float64 else 2e-6)
    aw, ah = aw * grow, ah * grow
    # Angle and centre of A in the frame of B. Angles are counter-clockwise with y pointing down.
    cos, sin = cos_a * cos_b + sin_a * sin_b, sin_a * cos_b - cos_a * sin_b
    gx, gy = ax - bx, ay - by
    cx, cy = gx * cos_b - gy * sin_b, gx * sin_b + gy * cos_b
    corner, edge = (a.new_tensor(signs)[..., None] for signs in (_CORNER, _EDGE))  # [2, 4, 1]
    # edges of A in the frame of B, [4, P]
    w_cos, w_sin, h_cos, h_sin = aw * cos, aw * sin, ah * cos, ah * sin
    p = (cx + corner[0] * w_cos + corner[1] * h_sin, cy + corner[1] * h_cos - corner[0] * w_sin)
    d = (edge[0] * w_cos + edge[1] * h_sin, edge[1] * h_cos - edge[0] * w_sin)
    twice = (_visible(p, d, (bw, bh)) * (p[0] * d[1] - p[1] * d[0])).sum(0)
    # edges of B in the frame of A; each spans a triangle of area bw * bh with the centre of B
    u, v = corner[0] * bw - cx, corner[1] * bh - cy
    p = (u * cos - v * sin, u * sin + v * cos)
    w_cos, w_sin, h_cos, h_sin = bw * cos, bw * sin, bh * cos, bh * sin
    d = (edge[0] * w_cos - edge[1] * h_sin, edge[0] * w_sin + edge[1] * h_cos)
    twice = twice + 2 * bw * bh * _visible(p, d, (aw, ah)).sum(0)
    inter = torch.minimum((0.5 * twice).clamp(min=0), torch.minimum(area_a, area_b))
    union = area_a + area_b - inter
    return torch.where(union > 0, inter / union.clamp(min=torch.finfo(a.dtype).tiny), 0.0)


def _hull(boxes: Tensor) -> list[Tensor]:
    """Compute left, top, right and bottom, [N] each, of slightly enlarged upright boxes around prepared ones."""
    x, y, w, h, cos, sin = boxes.detach().unbind(1)
    cos, sin = cos.abs(), sin.abs()
    # Hulls are compared in float32, so they are enlarged by more than its rounding error.
    dx, dy = 1.00001 * (cos * w + sin * h), 1.00001 * (sin * w + cos * h)
    slack = 1e-6
    sides = (x - dx, y - dy, x + dx, y + dy)
    signs = (-slack, -slack, slack, slack)
    return [(side + sign * side.abs()).float() for side, sign in zip(sides, signs)]


def _meet(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Return whether hulls overlap, [N, M]."""
    meet = a[0][:, None] < b[2]
    meet &= a[2][:, None] > b[0]
    meet &= a[1][:, None] < b[3]
    meet &= a[3][:, None] > b[1]
    return meet


def _overlap_enough(a: list[Tensor], b: list[Tensor], iou_threshold: float) -> Tensor:
    """Return [N, M] whether the IoU can exceed a threshold, given hulls and, as fifth element, areas.

    ``I / (A + B - I) > t`` is ``I > t / (1 + t) (A + B)``, and the overlap of the hulls is at least I.
    """
    inter = torch.minimum(a[2][:, None], b[2]).sub_(torch.maximum(a[0][:, None], b[0])).clamp_(min=0)
    inter *= torch.minimum(a[3][:, None], b[3]).sub_(torch.maximum(a[1][:, None], b[1])).clamp_(min=0)
    factor = iou_threshold / (1 + iou_threshold) * 0.9999
    return inter > (a[4] * factor)[:, None] + b[4] * factor


def _candidates(boxes1: Tensor, boxes2: Tensor, iou_threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Find :func:`candidate_pairs`, a few rows of the matrix at a time."""
    a, b = (_hull(t) + [(4 * t[:, 2] * t[:, 3]).detach().float()] for t in (boxes1, boxes2))
    at_once = _CELLS_AT_ONCE.get(boxes1.device.type, _CELLS_AT_ONCE[""])
    rows = max(1, at_once // max(len(boxes2), 1))
    for start in range(0, len(boxes1), rows):
        some = [v[start : start + rows] for v in a]
        found = _overlap_enough(some, b, iou_threshold) if iou_threshold > 0 else _meet(some, b)
        i, j = found.nonzero(as_tuple=True)
        yield i + start, j


def candidate_pairs(boxes1: Tensor, boxes2: Tensor, iou_threshold: float = 0.0) -> tuple[Tensor, Tensor]:
    """Find, by their enclosing upright boxes, pairs that include all with an IoU above a threshold.

    Args:
        boxes1: [N, 6], prepared.
        boxes2: [M, 6].
        iou_threshold: pairs up to this IoU may be missing.

    Returns:
        Two int64 tensors of indices [P], sorted by the first.
    """
    none = torch.zeros(0, dtype=torch.int64, device=boxes1.device)
    first, second = zip((none, none), *_candidates(boxes1, boxes2, iou_threshold))
    return torch.cat(first), torch.cat(second)


def split_pairs(i: Tensor, j: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split pairs into runs of a size that suits the device."""
    at_once = _PAIRS_AT_ONCE.get(i.device.type, _PAIRS_AT_ONCE[""])
    return zip(i.split(at_once), j.split(at_once))


def _pairwise(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    precise = torch.promote_types(boxes1.dtype, torch.float32)
    a, b = prepare(boxes1), prepare(boxes2)
    iou = torch.zeros(len(a), len(b), dtype=precise, device=a.device)
    for near in _candidates(a, b, 0.0):
        for i, j in split_pairs(*near):
            iou[i, j] = pair_iou(a[i], b[j]).to(precise)
    return iou


@torch.library.custom_op("detectron2::pairwise_iou_rotated", mutates_args=())
def _pairwise_op(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    return _pairwise(boxes1, boxes2)


@_pairwise_op.register_fake
def _(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    precise = torch.promote_types(boxes1.dtype, torch.float32)
    return boxes1.new_empty((boxes1.shape[0], boxes2.shape[0]), dtype=precise)


def _check(boxes: Tensor, name: str) -> None:
    if boxes.dim() != 2 or boxes.shape[-1] != 5:
        raise BadValue(f"{name} must be [N, 5] of (xc, yc, w, h, angle), got {tuple(boxes.shape)}")


def rotated_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Map [N, 5] and [M, 5] rotated boxes to [N, M] IoU, float32 or wider; differentiable outside compiled graphs."""
    _check(boxes1, "boxes1")
    _check(boxes2, "boxes2")
    if torch.compiler.is_compiling():  # the number of candidate pairs depends on the values
        return _pairwise_op(boxes1, boxes2)
    return _pairwise(boxes1, boxes2)
