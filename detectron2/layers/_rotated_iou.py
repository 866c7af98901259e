"""Intersection of rotated rectangles by Green's theorem, without sorting or padding.

The area of the intersection of two rectangles A and B is the line integral of x dy along its boundary. The boundary
consists of the edges of A inside B and of the edges of B inside A; an edge inside a rectangle is one
interval, found by clipping it at two slabs in the frame of that rectangle. Edge ``p + t d`` with ``t`` in
[t0, t1] adds ``(t1 - t0) cross(p, d) / 2``.

Edges that lie on each other (equal boxes, boxes that share a side) would be counted twice or never. So A is blown up by
one part in 1e9, which puts every such edge of B strictly inside of it; that changes areas as little.
For the difference to be visible next to the rounding, all is done in double precision.
"""

import torch
from torch import Tensor

__all__ = ["candidate_pairs", "pair_iou", "rotated_iou"]

# Signs of the corners in the order in which the boundary passes them, and of the edges from each to the next.
_CORNER_X, _CORNER_Y = (1.0, -1.0, -1.0, 1.0), (1.0, 1.0, -1.0, -1.0)
_EDGE_X, _EDGE_Y = (-2.0, 0.0, 2.0, 0.0), (0.0, -2.0, 0.0, 2.0)
_PAIRS_AT_ONCE = 1 << 18  # 50 temporary arrays of [8, P] doubles stay below 1 GiB
_CELLS_AT_ONCE = 1 << 22


def _working_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _check(boxes: Tensor, name: str) -> None:
    if boxes.dim() != 2 or boxes.shape[-1] != 5:
        raise ValueError(f"{name} must be [N, 5] of (xc, yc, w, h, angle), got {tuple(boxes.shape)}")


def _inside(p: Tensor, d: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of t in which ``-half <= p + t d <= half``; empty ones come out with end before start."""
    # An edge along the slab gets a slope so small that its interval is all or nothing, and no inf - inf.
    inverse = 1 / torch.where(d.abs() < 1e-30, 1e-30, d)
    limit = half * inverse.abs()
    middle = -p * inverse
    return middle - limit, middle + limit


def _visible(px: Tensor, py: Tensor, dx: Tensor, dy: Tensor, hw: Tensor, hh: Tensor) -> Tensor:
    """Share, 0 to 1, of each edge that lies in the rectangle |x| <= hw, |y| <= hh. All [4, P]."""
    x0, x1 = _inside(px, dx, hw)
    y0, y1 = _inside(py, dy, hh)
    start = torch.maximum(x0, y0).clamp(min=0)
    end = torch.minimum(x1, y1).clamp(max=1)
    return (end - start).clamp(min=0)


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of matched pairs.

    Args:
        a: [P, 5] of (x centre, y centre, width, height, angle in degrees).
        b: [P, 5].

    Returns:
        [P], in the working precision.
    """
    dtype = _working_dtype(a.device)
    a, b = a.to(dtype), b.to(dtype)
    size_a, size_b = a[:, 2:4].abs(), b[:, 2:4].abs()
    area_a, area_b = size_a.prod(1), size_b.prod(1)
    grow = 0.5 * (1 + (1e-9 if dtype == torch.float64 else 2e-6))
    (wa, ha), (wb, hb) = (size_a * grow).unbind(1), (size_b * 0.5).unbind(1)  # half sides
    # Frame of B: relative angle, and the centre of A. Angles turn counter-clockwise with y pointing down.
    turn_b = torch.deg2rad(b[:, 4])
    turn = torch.deg2rad(torch.remainder(a[:, 4] - b[:, 4], 360.0))
    cos, sin, cos_b, sin_b = turn.cos(), turn.sin(), turn_b.cos(), turn_b.sin()
    gap = a[:, :2] - b[:, :2]
    cx = gap[:, 0] * cos_b - gap[:, 1] * sin_b
    cy = gap[:, 0] * sin_b + gap[:, 1] * cos_b

    def signs(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=a.device)[:, None]  # [4, 1]

    corner_x, corner_y, edge_x, edge_y = (signs(s) for s in (_CORNER_X, _CORNER_Y, _EDGE_X, _EDGE_Y))
    # edges of A as B sees them, [4, P]
    u, v = corner_x * wa, corner_y * ha
    px, py = cx + u * cos + v * sin, cy - u * sin + v * cos
    u, v = edge_x * wa, edge_y * ha
    dx, dy = u * cos + v * sin, v * cos - u * sin
    twice = (_visible(px, py, dx, dy, wb, hb) * (px * dy - py * dx)).sum(0)
    # edges of B as A sees them; each spans a triangle of area wb * hb with the centre of B
    u, v = corner_x * wb - cx, corner_y * hb - cy
    px, py = u * cos - v * sin, u * sin + v * cos
    u, v = edge_x * wb, edge_y * hb
    dx, dy = u * cos - v * sin, u * sin + v * cos
    twice = twice + 2 * wb * hb * _visible(px, py, dx, dy, wa, ha).sum(0)
    inter = torch.minimum((0.5 * twice).clamp(min=0), torch.minimum(area_a, area_b))
    union = area_a + area_b - inter
    return torch.where(union > 0, inter / union.clamp(min=torch.finfo(dtype).tiny), 0.0)


def _extent(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and half sides of the enclosing axis-aligned boxes, [N, 2] each."""
    turn = torch.deg2rad(boxes[:, 4])
    cos, sin = turn.cos().abs(), turn.sin().abs()
    w, h = boxes[:, 2].abs(), boxes[:, 3].abs()
    return boxes[:, :2], 0.5 * torch.stack([cos * w + sin * h, sin * w + cos * h], 1)


def candidate_pairs(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of pairs whose enclosing axis-aligned boxes and circles meet; no other pair can overlap.

    Args:
        boxes1: [N, 5].
        boxes2: [M, 5].

    Returns:
        Two int64 tensors [P], sorted by the first.
    """
    boxes1, boxes2 = boxes1.detach(), boxes2.detach()
    (c1, e1), (c2, e2) = _extent(boxes1), _extent(boxes2)
    rows = max(1, _CELLS_AT_ONCE // max(len(boxes2), 1))
    first, second = [], []
    for start in range(0, len(boxes1), rows):
        part = slice(start, start + rows)
        meet = (c1[part, None, 0] - c2[None, :, 0]).abs() < e1[part, None, 0] + e2[None, :, 0]
        meet &= (c1[part, None, 1] - c2[None, :, 1]).abs() < e1[part, None, 1] + e2[None, :, 1]
        i, j = meet.nonzero(as_tuple=True)
        first.append(i + start)
        second.append(j)
    if not first:
        none = torch.zeros(0, dtype=torch.int64, device=boxes1.device)
        return none, none
    return torch.cat(first), torch.cat(second)


def _pairwise(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    dtype = _working_dtype(boxes1.device)
    a, b = boxes1.to(dtype), boxes2.to(dtype)
    i, j = candidate_pairs(a, b)
    parts = [pair_iou(a[p], b[q]) for p, q in zip(i.split(_PAIRS_AT_ONCE), j.split(_PAIRS_AT_ONCE))]
    precise = torch.promote_types(boxes1.dtype, torch.float32)
    iou = torch.zeros(len(a), len(b), dtype=precise, device=a.device)
    return iou.index_put((i, j), torch.cat(parts).to(precise)) if parts else iou


@torch.library.custom_op("detectron2::pairwise_iou_rotated", mutates_args=())
def _pairwise_op(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    return _pairwise(boxes1, boxes2)


@_pairwise_op.register_fake
def _(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    precise = torch.promote_types(boxes1.dtype, torch.float32)
    return boxes1.new_empty((boxes1.shape[0], boxes2.shape[0]), dtype=precise)


def rotated_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """[N, 5] and [M, 5] rotated boxes -> [N, M] IoU, float32 or wider; differentiable outside compiled graphs."""
    _check(boxes1, "boxes1")
    _check(boxes2, "boxes2")
    if torch.compiler.is_compiling():  # how many pairs are near each other depends on the values
        return _pairwise_op(boxes1, boxes2)
    return _pairwise(boxes1, boxes2)
