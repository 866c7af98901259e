"""One panoptic map of a large image, put together from those of its tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from detectron2.data.tiles import Tile
from detectron2.structures.types import SegmentInfo

from .labels import LabelPart, core_of, counts_of, packed, whole_map
from .merge import MergeRule, merge_pieces
from .pieces import Crop, Pieces, crop_of, joined

__all__ = ["PanopticMap", "SegmentPart", "panoptic_map", "segment_part"]

_MOST = int(np.iinfo(np.uint16).max)
_BAND = 1 << 24  # pixels of a thing that are painted at a time


class SegmentPart(NamedTuple):
    """The segments of one tile.

    Attributes:
        things: a piece for each thing.
        stuff: in the middle of the tile, the class of each pixel of stuff plus 1, and 0 elsewhere.
    """

    things: Pieces
    stuff: LabelPart


@dataclass(frozen=True)
class PanopticMap:
    """The segments of a large image.

    Attributes:
        ids: ``[H, W]``, the number of the segment of each pixel; 0 for none.
        segments: of each segment ``id``, ``category_id``, ``isthing``, ``area`` in pixels, and of things ``score``.
    """

    ids: npt.NDArray[np.unsignedinteger]
    segments: list[SegmentInfo]


def segment_part(
    ids: torch.Tensor, segments: Sequence[SegmentInfo], number: int, tile: Tile, core: Tile
) -> SegmentPart:
    """Take the segments of a tile apart.

    Args:
        ids: ``[h, w]``, of the whole tile.
        segments: what the ids mean.
        number: of the tile.
        tile: where it lies.
        core: of :func:`detectron2.prediction.tiles.labels.cores_of`.
    """
    values = ids.numpy()
    things = [s for s in segments if s["isthing"]]
    masks = [crop_of(values == s["id"], tile) for s in things]
    stuff = np.zeros(core_of(values, tile, core).shape, np.uint16)
    for segment in segments:
        if not segment["isthing"]:
            stuff[core_of(values, tile, core) == segment["id"]] = segment["category_id"] + 1
    return SegmentPart(
        Pieces(
            tiles=np.full(len(things), number, np.int64),
            boxes=np.array([m.window for m in masks], np.float32).reshape(-1, 4),
            scores=np.array([s.get("score", 1.0) for s in things], np.float32),
            classes=np.array([s["category_id"] for s in things], np.int64),
            masks=tuple(masks),
        ),
        packed(stuff),
    )


def panoptic_map(
    parts: Mapping[int, SegmentPart], tiles: Sequence[Tile], size: tuple[int, int], rule: MergeRule
) -> PanopticMap | None:
    """Put the segments of all tiles together; None if there are none.

    Stuff of one class is one segment. Things are merged as the masks of instances are, and lie over stuff; those with
    higher scores lie over others.
    """
    ids = whole_map({number: part.stuff for number, part in parts.items()}, tiles)
    if ids is None:
        return None
    first = int(ids.max()) + 1  # number of the first thing; numbers of stuff are classes plus 1
    things = merge_pieces(joined([parts[n].things for n in sorted(parts)]), tiles, size, rule)
    if first + len(things) > _MOST:
        ids = ids.astype(np.uint32)
    for place, crop in enumerate(things.masks or ()):
        _paint(ids, crop, first + place, first)
    areas = counts_of(ids)
    found: list[SegmentInfo] = []
    for number in np.flatnonzero(areas[1:]).tolist():
        number += 1
        info: SegmentInfo = {"id": number, "category_id": number - 1, "isthing": number >= first}
        if number >= first:
            thing = number - first
            info["category_id"], info["score"] = int(things.classes[thing]), float(things.scores[thing])
        found.append({**info, "area": int(areas[number])})
    return PanopticMap(ids, found)


def _paint(ids: npt.NDArray[np.unsignedinteger], crop: Crop, number: int, first: int) -> None:
    """Write a number into the pixels of a mask that no other thing has."""
    window = crop.window
    rows = max(_BAND // max(window.width, 1), 1)
    for top in range(window.y0, window.y1, rows):
        band = Tile(window.x0, top, window.x1, min(top + rows, window.y1))
        part = ids[band.y0 : band.y1, band.x0 : band.x1]
        part[crop.within(band) & (part < first)] = number
