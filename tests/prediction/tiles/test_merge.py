"""Merging of pieces: against a slow, obvious version, and as the inverse of cutting objects by tiles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from detectron2.data.tiles import Tile, tile_grid
from detectron2.prediction.tiles import MergeRule, Pieces, merge_pieces, pieces_of
from detectron2.prediction.tiles.pieces import joined
from detectron2.prediction.tiles.shapes import corners_of
from detectron2.structures import Boxes, Instances, RotatedBoxes, pairwise_iou_rotated

Bits = np.ndarray
RULE = MergeRule()


# ------------------------------------------------------------------ objects cut by tiles
def seen(objects: list[tuple[Bits, int]], tile: Tile, number: int, least: int = 1) -> Pieces:
    """What a faultless model of masks finds in a tile: the visible part of each object."""
    window = [(m[tile.y0 : tile.y1, tile.x0 : tile.x1], c) for m, c in objects]
    window = [(m, c) for m, c in window if m.sum() >= least]
    found = Instances((tile.height, tile.width))
    masks = np.array([m for m, _ in window], dtype=bool).reshape(-1, tile.height, tile.width)
    found.pred_masks = torch.from_numpy(masks)
    found.pred_boxes = Boxes(torch.tensor([box_of(m) for m in masks], dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.tensor([0.5 + m.sum() / 2e5 for m in masks], dtype=torch.float32)
    found.pred_classes = torch.tensor([c for _, c in window], dtype=torch.int64)
    return pieces_of(found, number, tile)


def box_of(mask: Bits) -> list[int]:
    ys, xs = np.nonzero(mask)
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def whole(pieces: Pieces, height: int, width: int) -> list[Bits]:
    assert pieces.masks is not None
    return [crop.within(Tile(0, 0, width, height)) for crop in pieces.masks]


def disc(height: int, width: int, y: float, x: float, r: float, stretch: float = 1.0) -> Bits:
    ys, xs = np.mgrid[:height, :width]
    return (ys - y) ** 2 + ((xs - x) / stretch) ** 2 <= r * r


@pytest.mark.parametrize("overlap", [0.1, 0.2, 0.5])
def test_a_mask_over_four_tiles_becomes_one_mask(overlap: float) -> None:
    tiles = tile_grid(200, 200, 110, overlap)
    corner = disc(200, 200, 100, 100, 70)  # larger than a tile's part of it in every direction
    assert sum(corner[t.y0 : t.y1, t.x0 : t.x1].any() for t in tiles) >= 4
    pieces = joined([seen([(corner, 3)], t, i) for i, t in enumerate(tiles)])
    merged = merge_pieces(pieces, tiles, (200, 200))
    assert len(merged) == 1
    np.testing.assert_array_equal(whole(merged, 200, 200)[0], corner)
    assert merged.boxes[0].tolist() == box_of(corner)
    assert merged.classes.tolist() == [3]


@pytest.mark.parametrize("seed", range(5))
def test_merging_undoes_the_cutting(seed: int) -> None:
    """Separate objects of every size come back exactly, however many tiles they lie in."""
    rng = np.random.default_rng(seed)
    height, width = 180 + int(rng.integers(80)), 180 + int(rng.integers(80))
    tiles = tile_grid(height, width, int(rng.integers(60, 120)), float(rng.uniform(0.15, 0.5)))
    objects: list[tuple[Bits, int]] = []
    taken = np.zeros((height, width), dtype=bool)
    for _ in range(40):
        r = float(rng.choice([3, 6, 12, 30]))
        mask = disc(
            height, width, rng.uniform(0, height), rng.uniform(0, width), r, float(rng.uniform(0.4, 2.5))
        )
        if mask.any() and not (mask & taken).any():
            objects.append((mask, int(rng.integers(2))))
            taken |= mask
    pieces = joined([seen(objects, t, i) for i, t in enumerate(tiles)])
    merged = merge_pieces(pieces, tiles, (height, width))
    wanted = sorted((c, m.tobytes()) for m, c in objects)
    assert sorted(zip(merged.classes.tolist(), (m.tobytes() for m in whole(merged, height, width)))) == wanted


def test_touching_objects_of_one_class_stay_two() -> None:
    """Two halves of a square meet at a line through the overlap: what both tiles see of them differs."""
    tiles = tile_grid(100, 180, 100, 0.2)
    left, right = (np.zeros((100, 180), dtype=bool) for _ in range(2))
    left[20:80, 40:90], right[20:80, 90:140] = True, True
    pieces = joined([seen([(left, 0), (right, 0)], t, i) for i, t in enumerate(tiles)])
    merged = merge_pieces(pieces, tiles, (100, 180))
    assert len(merged) == 2


def test_without_overlap_objects_stay_cut() -> None:
    tiles = tile_grid(100, 200, 100, 0.0)
    pieces = joined([seen([(disc(100, 200, 50, 100, 30), 0)], t, i) for i, t in enumerate(tiles)])
    assert len(merge_pieces(pieces, tiles, (100, 200))) == 2


# ------------------------------------------------------------------ the slow version
def slow_merge(
    masks: list[Bits], pieces: Pieces, tiles: list[Tile], height: int, width: int, rule: MergeRule
) -> list[tuple[Bits, float, int]]:
    """The documented rule with whole bitmaps, all pairs, and sets."""
    n = len(masks)

    def region(t: Tile) -> Bits:
        full = np.zeros((height, width), dtype=bool)
        full[t.y0 : t.y1, t.x0 : t.x1] = True
        return full

    regions = [region(t) for t in tiles]

    def is_cut(i: int) -> bool:
        t = tiles[pieces.tiles[i]]
        x0, y0, x1, y1 = box_of(masks[i])
        near = max(rule.margin * max(t.width, t.height), 1)
        return bool(
            (t.x0 > 0 and x0 <= t.x0 + near)
            or (t.y0 > 0 and y0 <= t.y0 + near)
            or (t.x1 < width and x1 >= t.x1 - near)
            or (t.y1 < height and y1 >= t.y1 - near)
        )

    pairs, leftover = [], set()
    for i in range(n):
        for j in range(i + 1, n):
            a, b = int(pieces.tiles[i]), int(pieces.tiles[j])
            if a == b or pieces.classes[i] != pieces.classes[j]:
                continue
            common = regions[a] & regions[b]
            mi, mj = masks[i] & common, masks[j] & common
            both, union = (mi & mj).sum(), (mi | mj).sum()
            if both and both / union >= rule.iou:
                pairs.append((both / union, i, j))
            small = i if (masks[i].sum(), -i) < (masks[j].sum(), -j) else j
            if both and is_cut(small) and both / masks[small].sum() >= rule.covered:
                leftover.add(small)
    pairs.sort(key=lambda p: (-p[0], p[1], p[2]))
    partner: set[tuple[int, int]] = set()  # (piece, tile of its partner)
    groups = [{i} for i in range(n)]
    chosen = []
    for iou, i, j in pairs:
        key_i, key_j = (i, int(pieces.tiles[j])), (j, int(pieces.tiles[i]))
        if key_i not in partner and key_j not in partner:
            partner |= {key_i, key_j}
            chosen.append((iou, i, j))
    for _, i, j in chosen:
        a = next(g for g in groups if i in g)
        b = next(g for g in groups if j in g)
        if a is not b and not {pieces.tiles[k] for k in a} & {pieces.tiles[k] for k in b}:
            groups.remove(b)
            a |= b
    result = []
    for group in groups:
        if len(group) == 1 and group & leftover:
            continue
        candidates = [i for i in sorted(group) if not is_cut(i)] or sorted(group)
        best = max(candidates, key=lambda i: (pieces.scores[i], -i))
        mask = masks[best] if not is_cut(best) else np.any([masks[i] for i in group], axis=0)
        result.append((mask, float(pieces.scores[best]), int(pieces.classes[best])))
    return result


@pytest.mark.parametrize("seed", range(6))
def test_merge_follows_the_rule_written_out_slowly(seed: int) -> None:
    """A careless model: parts moved, missing, doubled, of random scores, in crowds of overlapping objects."""
    rng = np.random.default_rng(100 + seed)
    height, width = 120, 150
    tiles = tile_grid(height, width, 70, 0.3)
    parts = []
    for number, tile in enumerate(tiles):
        for _ in range(6):
            center = rng.uniform(0, height), rng.uniform(0, width)
            shifted = disc(
                height,
                width,
                *(np.round(np.array(center) / 25) * 25 + rng.normal(0, 2, 2)),
                r=rng.uniform(8, 25),
            )
            part = seen([(shifted, int(rng.integers(2)))], tile, number)
            if len(part):
                part.scores[:] = rng.uniform()
                parts.append(part)
    pieces = joined(parts)
    masks = whole(pieces, height, width)
    merged = merge_pieces(pieces, tiles, (height, width))
    key = lambda m, s, c: (round(s, 6), c, m.tobytes())  # noqa: E731
    fast = sorted(
        key(m, float(s), int(c))
        for m, s, c in zip(whole(merged, height, width), merged.scores, merged.classes)
    )
    assert fast == sorted(key(*o) for o in slow_merge(masks, pieces, tiles, height, width, RULE))
    assert list(merged.scores) == sorted(merged.scores, reverse=True)
    assert len(merged) < len(pieces)


# ------------------------------------------------------------------ boxes, rotated boxes, keypoints
def boxes_seen(boxes: list[list[float]], tile: Tile, number: int) -> Pieces:
    clipped = []
    for x0, y0, x1, y1 in boxes:
        box = [max(x0, tile.x0), max(y0, tile.y0), min(x1, tile.x1), min(y1, tile.y1)]
        if box[0] < box[2] and box[1] < box[3]:
            clipped.append([box[0] - tile.x0, box[1] - tile.y0, box[2] - tile.x0, box[3] - tile.y0])
    found = Instances((tile.height, tile.width))
    found.pred_boxes = Boxes(torch.tensor(clipped, dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.full((len(clipped),), 0.9)
    found.pred_classes = torch.zeros(len(clipped), dtype=torch.int64)
    return pieces_of(found, number, tile)


def test_boxes_alone_merge_across_seams() -> None:
    tiles = tile_grid(300, 300, 120, 0.25)
    boxes = [
        [10, 10, 30, 40],
        [60, 70, 190, 260],
        [200, 20, 290, 60],
        [80, 40, 110, 55],
        [285, 285, 300, 300],
    ]
    pieces = joined([boxes_seen(boxes, t, i) for i, t in enumerate(tiles)])
    assert len(pieces) > len(boxes)
    merged = merge_pieces(pieces, tiles, (300, 300))
    assert sorted(merged.boxes.tolist()) == sorted(boxes)


def test_rotated_boxes_merge_to_their_duplicates() -> None:
    tiles = tile_grid(200, 200, 120, 0.4)
    boxes = np.array([[100, 100, 30, 10, 30], [60, 150, 24, 8, -75], [150, 40, 20, 20, 10]], dtype=np.float32)
    parts = []
    for i, t in enumerate(tiles):
        corners = corners_of(boxes)
        inside = [
            k
            for k, c in enumerate(corners)
            if t.x0 <= c[:, 0].min()
            and c[:, 0].max() <= t.x1
            and t.y0 <= c[:, 1].min()
            and c[:, 1].max() <= t.y1
        ]
        moved = boxes[inside] - np.array([t.x0, t.y0, 0, 0, 0], dtype=np.float32)
        found = Instances((t.height, t.width))
        found.pred_boxes = RotatedBoxes(torch.from_numpy(moved).reshape(-1, 5))
        found.scores = torch.full((len(inside),), 0.8)
        found.pred_classes = torch.zeros(len(inside), dtype=torch.int64)
        parts.append(pieces_of(found, i, t))
    pieces = joined(parts)
    assert len(pieces) > 3
    merged = merge_pieces(pieces, tiles, (200, 200))
    np.testing.assert_allclose(sorted(merged.boxes.tolist()), sorted(boxes.tolist()), atol=1e-4)


def test_a_rotated_box_over_a_seam_is_put_together() -> None:
    """A long bar at 20 degrees, of which each of two tiles sees a part."""
    tiles = tile_grid(100, 180, 100, 0.2)
    c, s = math.cos(math.radians(20)), math.sin(math.radians(20))
    halves = [(-60, 8), (-8, 60)]  # along the bar, from its middle; both see the 16 pixels in between
    parts = []
    for number, (low, high) in enumerate(halves):
        t = tiles[number]
        mid, length = (low + high) / 2, high - low
        box = [90 + mid * c - t.x0, 50 - mid * s - t.y0, length, 10, 20]
        found = Instances((t.height, t.width), pred_boxes=RotatedBoxes(torch.tensor([box])))
        found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
        parts.append(pieces_of(found, number, t))
    merged = merge_pieces(joined(parts), tiles, (100, 180))
    assert len(merged) == 1
    whole_bar = RotatedBoxes(torch.tensor([[90, 50, 120, 10, 20.0]]))
    iou = pairwise_iou_rotated(RotatedBoxes(torch.from_numpy(merged.boxes)), whole_bar)
    assert float(iou) > 0.99


def test_keypoints_move_with_their_tile_and_come_from_the_whole_piece() -> None:
    tiles = tile_grid(100, 180, 100, 0.4)
    parts = []
    for number, (box, score) in enumerate([([60, 10, 100, 50], 0.95), ([60, 10, 110, 50], 0.7)]):
        t = tiles[number]
        local = torch.tensor([[box[0] - t.x0, box[1], box[2] - t.x0, box[3]]], dtype=torch.float32)
        found = Instances((t.height, t.width), pred_boxes=Boxes(local), scores=torch.tensor([score]))
        found.pred_classes = torch.tensor([0])
        found.pred_keypoints = torch.tensor([[[70.0 + number - t.x0, 20.0, 1.0]]])
        parts.append(pieces_of(found, number, t))
    merged = merge_pieces(joined(parts), tiles, (100, 180))
    assert len(merged) == 1 and merged.keypoints is not None
    assert merged.boxes.tolist() == [[60, 10, 110, 50]]  # the first tile cuts it, although it is surer
    assert merged.keypoints.tolist() == [[[71.0, 20.0, 1.0]]]


def test_nothing_found_anywhere() -> None:
    tiles = tile_grid(100, 100, 60, 0.2)
    merged = merge_pieces(joined([seen([], t, i) for i, t in enumerate(tiles)]), tiles, (100, 100))
    assert len(merged) == 0 and merged.masks == () and merged.boxes.shape == (0, 4)


def test_pieces_of_another_size_are_refused() -> None:
    found: Any = Instances((5, 5), pred_boxes=Boxes(torch.zeros(0, 4)))
    with pytest.raises(ValueError, match="size"):
        pieces_of(found, 0, Tile(0, 0, 6, 6))


@pytest.mark.parametrize("bad", [{"iou": 0.0}, {"covered": 1.5}, {"margin": 0.5}])
def test_rules_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        MergeRule(**bad)
