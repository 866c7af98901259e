"""A data set of large images as a data set of their tiles."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from detectron2.utils.errors import BadValue
from detectron2.utils.file_io.atomic import atomic_write, write_json
from detectron2.utils.file_io.text import read_json

from ..formats.base import Dataset, target_names
from .grid import Tile, tile_grid
from .labels import labels_in
from .windows import ReadOptions, open_windows

__all__ = ["TileOptions", "cut_dataset"]

logger = logging.getLogger(__name__)

_STAMP = "tiles.json"


@dataclass(frozen=True)
class TileOptions:
    """How images are cut into tiles.

    Attributes:
        tile: side of a tile in pixels.
        overlap: share of the side that neighbours have in common.
        read: how the values of an image file are converted to 8-bit RGB.
    """

    tile: int = 1024
    overlap: float = 0.2
    read: ReadOptions = field(default_factory=ReadOptions)

    def as_dict(self) -> dict[str, Any]:
        """Return the options as values for JSON; :meth:`from_dict` reads them."""
        read = {name: None if v is None else list(v) for name, v in asdict(self.read).items()}
        return {"tile": self.tile, "overlap": self.overlap, **read}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TileOptions:
        """Return the options that :meth:`as_dict` wrote."""
        read = {name: values.get(name) for name in ("bands", "value_range")}
        chosen = {name: None if v is None else tuple(v) for name, v in read.items()}
        return cls(int(values["tile"]), float(values["overlap"]), ReadOptions(**chosen))

    def grid(self, height: int, width: int) -> list[Tile]:
        """Return the tiles of an image."""
        return tile_grid(height, width, self.tile, self.overlap)


def cut_dataset(dataset: Dataset, folder: Path, options: TileOptions, empty: float | None = None) -> Dataset:
    """Write the tiles of all images as PNG files, and return them as a data set, with the labels cut to each tile.

    Tiles that an earlier call wrote from the same files are not written again.

    Args:
        dataset: data set of whole images.
        folder: where to write; each image gets a folder of its own there.
        options: how images are cut.
        empty: how many tiles without an object to keep, as a share of the tiles with one; None keeps all. The choice
            depends only on the names of the tiles.

    Raises:
        ValueError: if the labels are label maps, which belong to whole images.
    """
    if any("sem_seg_file_name" in r or "pan_seg_file_name" in r for r in dataset.records):
        raise BadValue(
            "label maps cannot be cut into tiles; only boxes, masks, keypoints and rotated boxes can"
        )
    records: list[dict[str, Any]] = []
    for record, name in zip(dataset.records, target_names(dataset)):
        tiles = options.grid(record["height"], record["width"])
        labels = [labels_in(record.get("annotations", ()), tile) for tile in tiles]
        chosen = _chosen(name, tiles, labels, empty)
        files = _write(record, [tiles[i] for i in chosen], folder / name, options)
        for i, file in zip(chosen, files):
            records.append(
                {
                    "file_name": str(file),
                    "image_id": len(records) + 1,
                    "height": tiles[i].height,
                    "width": tiles[i].width,
                    "annotations": labels[i],
                }
            )
    return replace(dataset, records=records, file=None)


def _chosen(
    name: str, tiles: list[Tile], labels: list[list[dict[str, Any]]], empty: float | None
) -> list[int]:
    """Return the indices of the tiles to keep."""
    filled = [i for i, found in enumerate(labels) if any(not a.get("iscrowd") for a in found)]
    others = sorted(set(range(len(tiles))) - set(filled))
    if empty is None:
        return sorted(filled + others)
    by_chance = sorted(others, key=lambda i: zlib.crc32(f"{name} {tiles[i]}".encode()))
    return sorted(filled + by_chance[: round(empty * len(filled))])


def _write(record: Mapping[str, Any], tiles: list[Tile], folder: Path, options: TileOptions) -> list[Path]:
    """Write the tiles of one image that do not exist yet; return the paths of all."""
    source = os.fspath(record["file_name"])
    stamp = _stamp(source, options)
    old = folder / _STAMP
    if not (old.is_file() and read_json(old) == stamp):
        for stale in folder.glob("*.png"):
            stale.unlink()
        write_json(old, stamp)
    paths = [folder / f"{folder.name}_{tile.x0}_{tile.y0}.png" for tile in tiles]
    missing = [(tile, path) for tile, path in zip(tiles, paths) if not path.is_file()]
    if missing:
        with open_windows(source, options.read) as image:
            if (image.height, image.width) != (record["height"], record["width"]):
                raise BadValue(
                    f"{source} has {image.width} x {image.height} pixels, but its labels are for {record['width']} x "
                    f"{record['height']}"
                )
            for tile, path in missing:
                with atomic_write(path, "wb") as file:
                    Image.fromarray(image.read(tile)).save(file, "png", compress_level=1)
    logger.info("%s: %d tiles, %d of them new", source, len(tiles), len(missing))
    return paths


def _stamp(source: str, options: TileOptions) -> dict[str, Any]:
    """Return everything that the tiles of an image depend on."""
    stat = os.stat(source)
    where = os.path.abspath(source)
    return {"source": where, "bytes": stat.st_size, "modified": stat.st_mtime_ns, **options.as_dict()}
