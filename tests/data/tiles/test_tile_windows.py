"""Windows of files of every kind equal the same part of the whole picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectron2.data.tiles import GeoReference, ReadOptions, Tile, any_size, open_windows, tile_grid


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:130, :170]
    noise = rng.integers(0, 60, (130, 170, 3))
    return (np.stack([ys, xs, ys + xs], -1) * 0.6 + noise).clip(0, 255).astype(np.uint8)


def without_rasterio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)


def assert_windows(path: Path, expected: np.ndarray, options: ReadOptions = ReadOptions()) -> None:
    with open_windows(path, options) as image:
        assert (image.height, image.width) == expected.shape[:2]
        for tile in tile_grid(*expected.shape[:2], 48, 0.25):
            np.testing.assert_array_equal(image.read(tile), expected[tile.y0 : tile.y1, tile.x0 : tile.x1])
        first = Tile(3, 5, 20, 30)  # back to the top, and not of the grid
        np.testing.assert_array_equal(image.read(first), expected[5:30, 3:20])
        small = image.small(40)
        assert max(small.shape[:2]) <= 40 and small.shape[2] == 3


@pytest.mark.parametrize("reader", ["rasterio", "plain"])
@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.tif", "packed.tif", "a.bmp", "grey.png", "palette.png", "a.npy"]
)
def test_windows_of_files(
    name: str, reader: str, picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reader == "plain":
        without_rasterio(monkeypatch)
    else:
        pytest.importorskip("rasterio")
    path = tmp_path / name
    image = Image.fromarray(picture)
    if name == "a.npy":
        np.save(path, picture)
    elif name == "packed.tif":
        image.save(path, compression="tiff_deflate")
    elif name == "grey.png":
        image.convert("L").save(path)
    elif name == "palette.png":
        image.quantize(32).save(path)
    else:
        image.save(path)
    expected = picture if name == "a.npy" else np.asarray(Image.open(path).convert("RGB"))
    if name == "a.jpg" and reader == "rasterio":  # another build of libjpeg may round otherwise
        with open_windows(path) as opened:
            whole = opened.read(Tile(0, 0, 170, 130))
        assert np.abs(whole.astype(int) - expected).mean() < 1
        assert_windows(path, whole)
        return
    assert_windows(path, expected)


def test_an_uncompressed_tiff_is_mapped(
    picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_rasterio(monkeypatch)
    Image.fromarray(picture).save(tmp_path / "a.tif")
    opened = open_windows(tmp_path / "a.tif")
    assert isinstance(opened._array, np.memmap)  # type: ignore[attr-defined]


def test_a_damaged_file_is_named(picture: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    path = tmp_path / "cut.jpg"
    Image.fromarray(picture).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with open_windows(path) as opened, pytest.raises(OSError, match=r"cut\.jpg is damaged: .*libjpeg"):
        opened.read(Tile(0, 0, 170, 130))


def test_a_turned_photograph_is_upright(picture: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    assert_windows(tmp_path / "a.png", np.rot90(picture, 3))


def write_geotiff(path: Path, bands: np.ndarray, **options: object) -> None:
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    profile |= {"dtype": bands.dtype, "crs": "EPSG:32633", "transform": transform, **options}
    with rasterio.open(path, "w", **profile) as file:
        file.write(bands)


def test_geotiff_keeps_its_place_and_converts_its_values(tmp_path: Path) -> None:
    bands = np.random.default_rng(1).integers(0, 3000, (4, 90, 120)).astype(np.uint16)
    write_geotiff(tmp_path / "a.tif", bands, tiled=True, blockxsize=32, blockysize=32)
    with open_windows(tmp_path / "a.tif", ReadOptions((3, 2, 1), (0, 3000))) as image:
        assert image.geo == GeoReference("EPSG:32633", (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_400_000.0))
        window = image.read(Tile(10, 20, 40, 60))
    expected = bands[[2, 1, 0], 20:60, 10:40].transpose(1, 2, 0) * (255 / 3000)
    assert np.abs(window - expected).max() <= 0.51
    with open_windows(tmp_path / "a.tif") as image, pytest.raises(ValueError, match="value-range"):
        image.read(Tile(0, 0, 5, 5))
    with pytest.raises(ValueError, match="bands 1 to 4"):
        open_windows(tmp_path / "a.tif", ReadOptions((1, 2, 9)))
    with (
        pytest.raises(ValueError, match="value_range"),
        open_windows(tmp_path / "a.tif", ReadOptions(None, (5, 5))) as image,
    ):
        image.read(Tile(0, 0, 5, 5))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        open_windows(tmp_path / "none.tif")
    (tmp_path / "text.tif").write_text("this is no picture")
    with pytest.raises(OSError, match="text"):
        open_windows(tmp_path / "text.tif")


def test_any_size_leaves_the_limit_of_pillow_as_it_was() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with any_size():
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS == before
