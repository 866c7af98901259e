"""One object out of the pieces that several tiles have found of it.

The rule, in the order in which it is applied:

1. **Same object.** Two pieces of one class from two tiles are the same object if their parts *inside the region that both
   tiles see* have an IoU of at least ``iou``: there, both have seen the same pixels. Between two tiles a piece has at most
   one partner, and an object has at most one piece in each tile; pairs with a higher IoU go first.
2. **Seen whole.** A piece is cut if it ends within ``margin`` of an edge of its tile that is no edge of the image. If a
   piece of the object is not cut, the object is that piece; of several, the one with the highest score.
3. **Seen in parts.** Otherwise the object is all its pieces together: the union of the masks, the box around the boxes
   (of rotated ones at the angle of the largest piece), the highest score, and the keypoints of the piece with that score.
4. **Leftover.** A cut piece without a partner, of which ``covered`` or more lies inside a larger piece of its class from
   another tile, is dropped.

Tiles without overlap see nothing in common: there, objects stay cut at the seam.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectron2.data.tiles import Tile
from detectron2.structures.placed_masks import join_placed
from detectron2.structures.rle import run_lengths
from detectron2.utils.errors import BadValue

from .pieces import Crop, Pieces
from .shapes import corners_of, extents_of, intersection, shape_in

__all__ = ["MergeRule", "merge_pieces"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class MergeRule:
    """When pieces belong together; see the module.

    Attributes:
        iou: lowest IoU, inside what two tiles both see, of pieces of one object; in (0, 1].
        covered: lowest share of a leftover that another piece covers; in (0, 1].
        margin: distance to the edge of its tile, as a share of the tile's side, up to which a piece counts as cut.
    """

    iou: float = 0.5
    covered: float = 0.8
    margin: float = 0.01

    def __post_init__(self) -> None:
        for name, value in (("iou", self.iou), ("covered", self.covered)):
            if not 0 < value <= 1:
                raise BadValue(f"{name} must lie in (0, 1], got {value}")
        if not 0 <= self.margin < 0.5:
            raise BadValue(f"margin must lie in [0, 0.5), got {self.margin}")


class _Pair(NamedTuple):
    iou: float
    a: int
    b: int


def merge_pieces(
    pieces: Pieces, tiles: Sequence[Tile], size: tuple[int, int], rule: MergeRule | None = None
) -> Pieces:
    """Merge the pieces of the objects of an image.

    Args:
        pieces: of all tiles.
        tiles: all of them; ``pieces.tiles`` are numbers in this list.
        size: (height, width) of the image.
        rule: see the module; None for the usual one.

    Returns:
        One piece for each object, best score first.
    """
    rule = rule or MergeRule()
    cut = cut_by_edges(pieces, tiles, size, rule.margin)
    pairs, leftover = _pairs(pieces, tiles, cut, rule)
    groups = _groups(pieces, pairs)
    kept = [g for g in groups if len(g) > 1 or not leftover[g[0]]]
    whole = [_of_group(pieces, group, cut) for group in kept]
    return _in_order(pieces, whole)


def cut_by_edges(pieces: Pieces, tiles: Sequence[Tile], size: tuple[int, int], margin: float) -> Array:
    """Return which pieces, bool ``[N]``, end at an edge of their tile that is no edge of the image."""
    if not len(pieces):
        return np.zeros(0, dtype=bool)
    height, width = size
    windows = np.array(tiles, dtype=np.float64)[pieces.tiles]  # [N, 4]
    near = np.maximum(margin * (windows[:, 2:] - windows[:, :2]).max(axis=1), 1)[:, None]
    extents = extents_of(pieces)
    inner = windows != np.array([0, 0, width, height])
    low = (extents[:, :2] <= windows[:, :2] + near) & inner[:, :2]
    high = (extents[:, 2:] >= windows[:, 2:] - near) & inner[:, 2:]
    return np.asarray((low | high).any(axis=1))


def _pairs(
    pieces: Pieces, tiles: Sequence[Tile], cut: Array, rule: MergeRule
) -> tuple[list[_Pair], npt.NDArray[np.bool_]]:
    """Find pairs of pieces that are one object, best first, and pieces that larger ones of other tiles cover."""
    extents = extents_of(pieces)
    of_tile = _by_tile(pieces.tiles, len(tiles))
    areas = _areas(pieces)
    leftover = np.zeros(len(pieces), dtype=bool)
    found: list[_Pair] = []
    for a, b in _neighbours(tiles, of_tile):
        region = tiles[a].shared(tiles[b])
        own = _common(pieces, extents, of_tile[a], of_tile[b], region)
        shapes = {i: shape_in(pieces, i, region) for i in {i for pair in own for i in pair}}
        between = []
        for i, j in own:
            both = intersection(shapes[i], shapes[j], region)
            union = shapes[i].area + shapes[j].area - both
            if both > 0 and both >= rule.iou * union:
                between.append(_Pair(both / union, i, j))
            small = min(i, j, key=lambda k: (areas[k], -k))
            leftover[small] |= bool(cut[small]) and 0 < rule.covered * areas[small] <= both
        found += _one_to_one(between)
    return sorted(found, key=_best_first), leftover


def _best_first(pair: _Pair) -> tuple[float, int, int]:
    return -pair.iou, pair.a, pair.b


def _by_tile(numbers: Array, count: int) -> list[Array]:
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.searchsorted(numbers[order], np.arange(1, count)))


def _areas(pieces: Pieces) -> Array:
    """Areas of the whole shapes."""
    corners = corners_of(pieces.boxes)
    x, y = corners[:, :, 0], corners[:, :, 1]
    areas = np.abs((x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)) / 2
    for i, crop in enumerate(pieces.masks or ()):
        if crop.window.width:
            areas[i] = run_lengths(crop.rle)[1::2].sum()
    return areas


def _neighbours(tiles: Sequence[Tile], of_tile: Sequence[Array]) -> Iterator[tuple[int, int]]:
    """Pairs of tiles that overlap and have pieces, the lower number first."""
    windows = np.array(tiles).reshape(-1, 4)
    filled = np.array([len(p) > 0 for p in of_tile], dtype=bool)
    for a in np.flatnonzero(filled).tolist():
        low = np.maximum(windows[a + 1 :, :2], windows[a, :2])
        high = np.minimum(windows[a + 1 :, 2:], windows[a, 2:])
        meets = (high > low).all(axis=1) & filled[a + 1 :]
        for b in np.flatnonzero(meets).tolist():
            yield a, a + 1 + b


def _common(pieces: Pieces, extents: Array, of_a: Array, of_b: Array, region: Tile) -> list[tuple[int, int]]:
    """Pairs of pieces of one class whose extents meet inside a region."""
    first, second = (_clip(extents[numbers], region) for numbers in (of_a, of_b))
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    same = pieces.classes[of_a][:, None] == pieces.classes[of_b][None]
    rows, columns = np.nonzero((high > low).all(axis=2) & same)
    return list(zip(of_a[rows].tolist(), of_b[columns].tolist()))


def _clip(extents: Array, region: Tile) -> Array:
    x0, y0, x1, y1 = region
    return np.concatenate(
        [np.maximum(extents[:, :2], (x0, y0)), np.minimum(extents[:, 2:], (x1, y1))], axis=1
    )


def _one_to_one(pairs: list[_Pair]) -> list[_Pair]:
    """Give each piece at most one partner, the best pairs first."""
    taken: set[int] = set()
    kept = []
    for pair in sorted(pairs, key=_best_first):
        if pair.a not in taken and pair.b not in taken:
            taken |= {pair.a, pair.b}
            kept.append(pair)
    return kept


def _groups(pieces: Pieces, pairs: Sequence[_Pair]) -> list[list[int]]:
    """Join pairs to objects, none of which has two pieces in one tile."""
    group_of = list(range(len(pieces)))
    members = {i: [i] for i in group_of}
    tiles = pieces.tiles.tolist()
    for _, i, j in pairs:
        a, b = group_of[i], group_of[j]
        if a == b or {tiles[k] for k in members[a]} & {tiles[k] for k in members[b]}:
            continue
        a, b = min(a, b), max(a, b)
        for k in members[b]:
            group_of[k] = a
        members[a] += members.pop(b)
    return [sorted(m) for _, m in sorted(members.items())]


class _Object(NamedTuple):
    """The piece that an object takes all else from, and what its group changes."""

    piece: int
    box: Array
    mask: Crop | None


def _of_group(pieces: Pieces, group: list[int], cut: Array) -> _Object:
    candidates = [i for i in group if not cut[i]] or group
    best = max(candidates, key=lambda i: (pieces.scores[i], -i))
    mask = None if pieces.masks is None else pieces.masks[best]
    if len(group) == 1 or not cut[best]:
        return _Object(best, pieces.boxes[best], mask)
    boxes = pieces.boxes[group]
    box = (
        _around_rotated(boxes)
        if pieces.rotated
        else np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    )
    return _Object(best, box, None if pieces.masks is None else _union([pieces.masks[i] for i in group]))


def _around_rotated(boxes: Array) -> Array:
    """Return the box around rotated boxes ``[M, 5]``, at the angle of the largest."""
    angle = float(boxes[np.argmax(boxes[:, 2] * boxes[:, 3]), 4])
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    along = np.array([[cos, -sin], [sin, cos]])  # axes of a box of this angle, y pointing down
    places = corners_of(boxes).reshape(-1, 2) @ along.T
    low, high = places.min(axis=0), places.max(axis=0)
    center = (low + high) / 2 @ along
    return np.array([*center, *(high - low), angle], dtype=boxes.dtype)


def _union(crops: Sequence[Crop]) -> Crop:
    filled = [crop for crop in crops if crop.window.width]
    if not filled:
        return crops[0]
    windows = np.array([crop.window for crop in filled])
    around = Tile(*windows[:, :2].min(axis=0).tolist(), *windows[:, 2:].max(axis=0).tolist())
    corners = [(crop.window.x0 - around.x0, crop.window.y0 - around.y0) for crop in filled]
    joined = join_placed([crop.rle for crop in filled], corners, (around.height, around.width))
    return Crop(around, joined["counts"])


def _in_order(pieces: Pieces, objects: Sequence[_Object]) -> Pieces:
    """Return objects as pieces, best score first."""
    ordered = sorted(objects, key=lambda o: (-pieces.scores[o.piece], o.piece))
    merged = pieces.chosen([o.piece for o in ordered])
    boxes = np.array([o.box for o in ordered], dtype=pieces.boxes.dtype).reshape(-1, pieces.boxes.shape[1])
    masks = None if pieces.masks is None else tuple(o.mask for o in ordered if o.mask is not None)
    return replace(merged, boxes=boxes, masks=masks)
