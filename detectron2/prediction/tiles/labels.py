"""The class of each pixel of a large image, put together from its tiles."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from detectron2.data import Metadata
from detectron2.data.tiles import Tile
from detectron2.structures.exchange import class_texts

__all__ = [
    "LabelPart",
    "class_areas",
    "core_of",
    "cores_of",
    "counts_of",
    "label_part",
    "packed",
    "whole_map",
]

Map = npt.NDArray[np.unsignedinteger]

Values = TypeVar("Values", npt.NDArray[np.integer], torch.Tensor)
_ROWS = 1024  # counted at a time


class LabelPart(NamedTuple):
    """The classes in the middle of one tile.

    Attributes:
        dtype: of the numbers.
        data: the numbers row by row, compressed.
    """

    dtype: str
    data: bytes


def cores_of(tiles: Sequence[Tile]) -> list[Tile]:
    """Return for each tile of a grid the part that lies nearer to its middle than to its neighbours'.

    The cores cover the image without overlap: each pixel is taken from the tile that sees most around it.
    """
    columns = _cut([(t.x0, t.x1) for t in tiles])
    rows = _cut([(t.y0, t.y1) for t in tiles])
    return [Tile(columns[t.x0][0], rows[t.y0][0], columns[t.x0][1], rows[t.y0][1]) for t in tiles]


def _cut(spans: Sequence[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Cut spans in the middle of what neighbours share; by their starts."""
    ordered = sorted(set(spans))
    middles = [(left[1] + right[0]) // 2 for left, right in pairwise(ordered)]
    edges = [ordered[0][0], *middles, ordered[-1][1]]
    return {span[0]: cut for span, cut in zip(ordered, pairwise(edges))}


def label_part(scores: torch.Tensor, tile: Tile, core: Tile) -> LabelPart:
    """Return the best class of each pixel in the core of a tile.

    Args:
        scores: ``[C, h, w]``, of the whole tile.
        tile: where it lies.
        core: of :func:`cores_of`.
    """
    best = core_of(scores, tile, core).argmax(dim=0).numpy()
    return packed(best.astype(np.uint8 if len(scores) <= 256 else np.uint16))


def core_of(values: Values, tile: Tile, core: Tile) -> Values:
    """Return the core of values ``[..., h, w]`` of a whole tile."""
    return values[..., core.y0 - tile.y0 : core.y1 - tile.y0, core.x0 - tile.x0 : core.x1 - tile.x0]


def packed(labels: Map) -> LabelPart:
    """Compress the numbers in the core of a tile."""
    return LabelPart(labels.dtype.str, zlib.compress(labels.tobytes(), 1))


def whole_map(parts: Mapping[int, LabelPart], tiles: Sequence[Tile]) -> Map | None:
    """Put the cores together to one map ``[H, W]``; None if there are none."""
    if not parts:
        return None
    size = (max(t.y1 for t in tiles), max(t.x1 for t in tiles))
    labels = np.zeros(size, dtype=next(iter(parts.values())).dtype)
    cores = cores_of(tiles)
    for number, part in parts.items():
        core = cores[number]
        values = np.frombuffer(zlib.decompress(part.data), dtype=part.dtype)
        labels[core.y0 : core.y1, core.x0 : core.x1] = values.reshape(core.height, core.width)
    return labels


def counts_of(labels: Map) -> npt.NDArray[np.int64]:
    """Count the pixels of each number, from 0 to the highest one."""
    total = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    for start in range(0, len(labels), _ROWS):
        total += np.bincount(labels[start : start + _ROWS].ravel(), minlength=len(total))
    return total


def class_areas(labels: Map, metadata: Metadata) -> Iterator[tuple[int, str, int]]:
    """Yield number, name and pixels of each class that a map has."""
    total = counts_of(labels)
    found = np.flatnonzero(total).tolist()
    for number, name in zip(found, class_texts(found, metadata.get("stuff_classes"))):
        yield number, name, int(total[number])
