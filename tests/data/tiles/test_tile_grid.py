"""The grid covers every pixel, with tiles of one size and at least the wanted overlap."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron2.data.tiles import Tile, tile_grid


@settings(max_examples=25)
@given(
    height=st.integers(1, 60), width=st.integers(1, 60), tile=st.integers(1, 70), overlap=st.floats(0, 0.9)
)
def test_grid_covers_the_image_with_enough_overlap(
    height: int, width: int, tile: int, overlap: float
) -> None:
    tiles = tile_grid(height, width, tile, overlap)
    seen = np.zeros((height, width), dtype=int)
    for t in tiles:
        assert (t.height, t.width) == (min(tile, height), min(tile, width))
        seen[t.y0 : t.y1, t.x0 : t.x1] += 1
    assert seen.min() >= 1
    assert tiles == sorted(tiles, key=lambda t: (t.y0, t.x0))
    wanted = min(tile * overlap, tile - 1)  # neighbours differ by at least one pixel
    for starts in (sorted({t.x0 for t in tiles}), sorted({t.y0 for t in tiles})):
        assert all(tile - (b - a) >= wanted for a, b in itertools.pairwise(starts))
        assert len(starts) == len(set(starts))


def test_no_more_tiles_than_needed() -> None:
    assert len(tile_grid(1000, 1000, 1000, 0.5)) == 1
    assert [t.x0 for t in tile_grid(100, 300, 100, 0.0)] == [0, 100, 200]
    assert len(tile_grid(20_000, 20_000, 1024, 0.2)) == 25 * 25


@pytest.mark.parametrize("bad", [{"tile": 0}, {"overlap": 0.95}, {"overlap": -0.1}, {"height": 0}])
def test_numbers_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"tile|overlap|pixels"):
        tile_grid(**{"height": 10, "width": 10, "tile": 5, "overlap": 0.2, **bad})  # type: ignore[arg-type]


def test_shared_window() -> None:
    assert Tile(0, 0, 10, 10).shared(Tile(8, 5, 20, 20)) == Tile(8, 5, 10, 10)
    assert Tile(0, 0, 10, 10).shared(Tile(10, 0, 20, 10)).width == 0
