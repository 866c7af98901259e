"""Large images in tiles: the grid, windows of files, and labels cut to tiles."""

from .cut import TileOptions, cut_dataset
from .grid import Tile, tile_grid
from .labels import labels_in
from .windows import GeoReference, ReadOptions, Windows, any_size, open_windows

__all__ = [
    "GeoReference",
    "ReadOptions",
    "Tile",
    "TileOptions",
    "Windows",
    "any_size",
    "cut_dataset",
    "labels_in",
    "open_windows",
    "tile_grid",
]
