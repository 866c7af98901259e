"""Read windows of large images, without loading the whole file where its format allows that."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from detectron2.utils.errors import BadValue
from detectron2.utils.image_io import READ_ERRORS, exif_orientation, read_image

from .grid import Tile

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from typing_extensions import Self

__all__ = ["GeoReference", "ReadOptions", "Windows", "any_size", "open_windows"]

logger = logging.getLogger(__name__)

RGB = npt.NDArray[np.uint8]
_BLOCK_CACHE = 256_000_000  # bytes of decoded blocks that GDAL keeps
_LARGE = 1 << 26  # pixels; decoding a larger image whole logs a warning
_TIFF = {"compression": 259, "planar": 284, "offsets": 273, "counts": 279, "tile_width": 322, "bits": 258}


@dataclass(frozen=True)
class GeoReference:
    """The map coordinates of the pixels of an image.

    Attributes:
        crs: coordinate reference system, such as "EPSG:32633", or WKT text if it has no such code.
        transform: (a, b, c, d, e, f), which maps a pixel's corner (x, y) to (a x + b y + c, d x + e y + f).
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class ReadOptions:
    """How the values of an image file are converted to 8-bit RGB.

    Attributes:
        bands: numbers of the bands for red, green and blue, counted from 1; None uses the bands that the file calls
            red, green and blue, or else the first three.
        value_range: the values that become 0 and 255; None keeps 8-bit values as they are.
    """

    bands: tuple[int, int, int] | None = None
    value_range: tuple[float, float] | None = None

    def to_rgb(self, values: npt.NDArray[Any], name: str) -> RGB:
        """Convert bands ``(H, W, C)`` to 8-bit RGB ``(H, W, 3)``.

        Raises:
            ValueError: if the values are not 8-bit and there is no ``value_range``.
        """
        if values.shape[2] < 3:
            values = np.repeat(values[:, :, :1], 3, axis=2)
        values = values[:, :, :3]
        if self.value_range is None:
            if values.dtype != np.uint8:
                raise BadValue(
                    f"{name} has values of type {values.dtype}: give the values of black and white, such as "
                    "--value-range 0 3000"
                )
            return np.ascontiguousarray(values)
        low, high = self.value_range
        if not high > low:
            raise BadValue(f"value_range must be (lowest, highest), got {self.value_range}")
        scaled = (values.astype(np.float32) - low) * (255 / (high - low))
        return np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)


class Windows(Protocol):
    """An image that is open for reading windows; use it in a ``with`` block and in one thread.

    Attributes:
        height: rows.
        width: columns.
        geo: map coordinates; None if the file has none.
    """

    height: int
    width: int
    geo: GeoReference | None

    def read(self, tile: Tile) -> RGB:
        """Read a window as RGB ``(h, w, 3)``; reading windows row by row, from the top, is fastest."""

    def small(self, longest: int) -> RGB:
        """Read the whole image, shrunk so that no side has more than ``longest`` pixels."""

    def __enter__(self) -> Windows: ...

    def __exit__(self, *_: object) -> None: ...


@contextmanager
def any_size() -> Iterator[None]:
    """Let Pillow open images of any size; for images that are cut into tiles, or known to be large."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def open_windows(path: str | os.PathLike[str], options: ReadOptions | None = None) -> Windows:
    """Open an image for reading windows.

    ``.npy`` files are mapped into memory. With rasterio (extra ``geo``), GeoTIFF and other formats that store blocks are
    read in windows, and PNG and JPEG line by line, in bands as high as a tile. Without it, uncompressed TIFF files are
    mapped into memory, and Pillow decodes all other images whole, with four bytes per pixel. Photographs with an EXIF
    orientation are always decoded whole.

    Args:
        path: image file.
        options: how its values are converted to 8-bit RGB; None keeps 8-bit values as they are.

    Raises:
        OSError: if it cannot be read.
        ValueError: if its values are not 8-bit and ``options`` has no ``value_range``.
    """
    options = options or ReadOptions()
    name = os.fspath(path)
    if name.endswith(".npy"):
        return _ArrayWindows(np.load(name, mmap_mode="r"), name, options)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"there is no file {name}")
    turned, mapped = _look(name)
    if not turned:
        opened = _by_rasterio(name, options)
        if opened is not None:
            return opened
        if mapped is not None:
            return _ArrayWindows(mapped, name, options)
    return _decoded(name, options, turned)


def _look(name: str) -> tuple[bool, npt.NDArray[np.uint8] | None]:
    """Return whether an image has an EXIF orientation, and the pixels of an uncompressed TIFF mapped from its file."""
    with any_size(), suppress(*READ_ERRORS, ValueError), Image.open(name) as image:
        return exif_orientation(image) != 1, _mapped_tiff(name, image)
    return False, None  # Pillow does not know the format, but rasterio may


def _mapped_tiff(name: str, image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """Map the pixels of a TIFF file if it stores them uncompressed, with 8 bits, and its strips follow one another."""
    tags: Any = getattr(image, "tag_v2", None)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}.get(image.mode)
    if (
        tags is None
        or channels is None
        or _TIFF["tile_width"] in tags
        or tags.get(_TIFF["compression"], 1) != 1
    ):
        return None
    offsets, counts = tags.get(_TIFF["offsets"], ()), tags.get(_TIFF["counts"], ())
    size = image.width * image.height * channels
    dense = all(o + c == following for o, c, following in zip(offsets, counts, offsets[1:]))
    separate = channels > 1 and tags.get(_TIFF["planar"], 1) != 1
    if (
        not offsets
        or not dense
        or separate
        or sum(counts) != size
        or set(tags.get(_TIFF["bits"], (8,))) != {8}
    ):
        return None
    shape = (image.height, image.width, channels)
    return np.memmap(name, np.uint8, "r", offset=int(offsets[0]), shape=shape)


def _by_rasterio(name: str, options: ReadOptions) -> Windows | None:
    """Open an image with rasterio; return None if rasterio is not installed or cannot read the file."""
    try:
        import rasterio
    except ImportError:
        return None
    import warnings

    # By itself GDAL keeps decoded blocks in 5 % of the machine's memory.
    limit = {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": _BLOCK_CACHE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(name)
        except rasterio.errors.RasterioIOError:
            return None
    if dataset.driver in ("PNG", "JPEG", "GIF", "BMP"):
        return _LineWindows(dataset, name, options, rasterio.Env(**limit))
    return _RasterWindows(dataset, name, options, rasterio.Env(**limit))


def _decoded(name: str, options: ReadOptions, turned: bool) -> Windows:
    """Decode a whole image."""
    with any_size():
        with Image.open(name) as image:
            pixels = image.width * image.height
        if pixels > _LARGE:
            logger.warning(
                "%s is decoded whole (about %.1f GB)%s.", name, pixels * 4 / 1e9,
                "" if turned else ": with `pip install 'detectron2[geo]'` it is read in parts",
            )  # fmt: skip
        deep = options.value_range is not None
        array = read_image(name, None if deep else "RGB")
    return _ArrayWindows(array if array.ndim == 3 else array[:, :, None], name, options)


class _Opened:
    """The parts that all kinds of windows share."""

    height: int
    width: int
    geo: GeoReference | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class _ArrayWindows(_Opened):
    """Windows of an array ``(H, W, C)``, in memory or mapped."""

    def __init__(self, array: npt.NDArray[Any], name: str, options: ReadOptions) -> None:
        if array.ndim not in (2, 3) or not array.size:
            raise BadValue(
                f"{name} must hold an array (H, W) or (H, W, C) with pixels, got shape {array.shape}"
            )
        array = array if array.ndim == 3 else array[:, :, None]
        bands = options.bands
        self._channels = [b - 1 for b in bands] if bands else list(range(min(array.shape[2], 3)))
        if max(self._channels) >= array.shape[2] or min(self._channels) < 0:
            raise BadValue(f"{name} has the bands 1 to {array.shape[2]}, got {bands}")
        self._array, self._name, self._options = array, name, options
        self.height, self.width = array.shape[:2]

    def read(self, tile: Tile) -> RGB:
        window = np.asarray(self._array[tile.y0 : tile.y1, tile.x0 : tile.x1])
        return self._options.to_rgb(window[:, :, self._channels], self._name)

    def small(self, longest: int) -> RGB:
        step = max(-(-max(self.height, self.width) // longest), 1)
        return self._options.to_rgb(np.asarray(self._array[::step, ::step])[:, :, self._channels], self._name)


class _RasterWindows(_Opened):
    """Windows of a raster whose blocks can be read in any order."""

    def __init__(
        self,
        dataset: DatasetReader,
        name: str,
        options: ReadOptions,
        settings: AbstractContextManager[object],
    ) -> None:
        self._settings = settings  # of GDAL, while the raster is in use
        self._dataset, self._name, self._options = dataset, name, options
        self.height, self.width = dataset.height, dataset.width
        self._bands = _bands_of(dataset, name, options)
        self._colors = _color_table(dataset) if len(self._bands) == 1 else None
        self.geo = _reference_of(dataset)

    def read(self, tile: Tile) -> RGB:
        window = ((tile.y0, tile.y1), (tile.x0, tile.x1))
        return self._converted(window=window)

    def small(self, longest: int) -> RGB:
        scale = min(longest / max(self.height, self.width), 1)
        shape = (max(round(self.height * scale), 1), max(round(self.width * scale), 1))
        return self._converted(out_shape=(len(self._bands), *shape))

    def _converted(self, **where: tuple[Any, ...]) -> RGB:
        try:
            values = np.moveaxis(self._dataset.read(self._bands, **where), 0, 2)
        except OSError as error:
            raise OSError(f"{self._name} is damaged: {error.__cause__ or error}") from error
        if self._colors is not None:
            return self._colors[values[:, :, 0]]
        return self._options.to_rgb(values, self._name)

    def __enter__(self) -> Self:
        self._settings.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._dataset.close()
        self._settings.__exit__(None, None, None)


class _LineWindows(_RasterWindows):
    """Windows of an image whose lines can only be decoded in order, such as PNG and JPEG.

    The lines of the current row of tiles stay in memory, so that the next row decodes only the lines below them.
    """

    def __init__(
        self,
        dataset: DatasetReader,
        name: str,
        options: ReadOptions,
        settings: AbstractContextManager[object],
    ) -> None:
        super().__init__(dataset, name, options, settings)
        self._band = np.zeros((0, self.width, 3), np.uint8)
        self._first = 0  # the line of the image at the top of the band

    def read(self, tile: Tile) -> RGB:
        last = self._first + len(self._band)
        if tile.y0 < self._first or tile.y0 > last:
            self._band, self._first, last = self._band[:0], tile.y0, tile.y0
        if tile.y1 > last:
            lines = super().read(Tile(0, last, self.width, tile.y1))
            self._band = np.concatenate([self._band[tile.y0 - self._first :], lines])
            self._first = tile.y0
        top = tile.y0 - self._first
        return np.ascontiguousarray(self._band[top : top + tile.height, tile.x0 : tile.x1])


def _bands_of(dataset: DatasetReader, name: str, options: ReadOptions) -> list[int]:
    """Choose the bands for red, green and blue, or a single one for a grey image."""
    if options.bands is not None:
        if not all(1 <= b <= dataset.count for b in options.bands):
            raise BadValue(f"{name} has the bands 1 to {dataset.count}, got {options.bands}")
        return list(options.bands)
    meanings = [m.name for m in dataset.colorinterp]
    if {"red", "green", "blue"} <= set(meanings):
        return [meanings.index(color) + 1 for color in ("red", "green", "blue")]
    return [1, 2, 3] if dataset.count >= 3 else [1]


def _color_table(dataset: DatasetReader) -> npt.NDArray[np.uint8] | None:
    """Return the colours ``[256, 3]`` of the values of a palette image; None for other images."""
    try:
        table = dataset.colormap(1)
    except ValueError:
        return None
    colors = np.zeros((256, 3), np.uint8)
    for value, color in table.items():
        if value < len(colors):
            colors[value] = color[:3]
    return colors


def _reference_of(dataset: DatasetReader) -> GeoReference | None:
    if dataset.crs is None:
        return None
    code = dataset.crs.to_authority()
    transform: Sequence[float] = dataset.transform
    a, b, c, d, e, f = (float(v) for v in list(transform)[:6])
    return GeoReference(":".join(code) if code else dataset.crs.to_wkt(), (a, b, c, d, e, f))
