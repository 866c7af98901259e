"""The picture that is drawn on: antialiased shapes and text, blended with Pillow."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from detectron2.utils.errors import BadValue
from detectron2.utils.file_io.atomic import atomic_write

from .colors import ColorLike, to_rgb
from .figure import NAMES as FIGURE_NAMES
from .figure import open_figure, rendered, show_drawing
from .placement import TakenPlaces
from .text import fitting, fitting_sheet, text_size

_OVERSAMPLING = 4
_TILE = 512  # pixels of the output: the memory of one shape is bounded by a tile
_DASHES = {"--": (4.0, 2.5), ":": (1.0, 1.5), "-.": (4.0, 2.0)}  # lengths of stroke and gap in line widths
_GROUND_ALPHA = 0.72

Points = npt.NDArray[np.float64]


class VisImage:
    """An RGB picture and the means to draw on it.

    Programs that draw with Matplotlib get ``fig``, ``canvas`` and ``ax`` when they ask for them: a figure that shows
    the picture with all that was drawn on it. Artists that are added to ``ax`` lie on top.

    Attributes:
        img: the picture as given, ``[height, width, 3]``.
        scale: size of the drawing relative to ``img``.
        width, height: size of ``img``; coordinates of all drawing refer to it.
        labels: the places in the output that texts have taken.
    """

    def __init__(self, img: npt.NDArray, scale: float = 1.0) -> None:
        """
        Args:
            img: ``[height, width, 3]``, RGB in [0, 255].
            scale: factor by which the output is larger than ``img``.
        """
        if scale <= 0:
            raise BadValue(f"scale must be positive, got {scale}")
        self.scale = scale
        self.reset_image(img)
        self._setup_figure(self.img)
        if "ax" in self.__dict__:  # a subclass draws with a figure of its own
            show_drawing(self, self.ax)

    def __getattr__(self, name: str) -> Any:
        if name in FIGURE_NAMES and "sheet" in self.__dict__:
            self.fig, self.canvas, self.ax = open_figure(self)
            return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _setup_figure(self, img: npt.NDArray) -> None:
        """Do nothing; subclasses may make a Matplotlib figure here: ``fig``, ``canvas`` and ``ax``."""

    def reset_image(self, img: npt.NDArray) -> None:
        """Begin anew with a picture; what was drawn is gone.

        Args:
            img: as in the constructor.
        """
        self.img = _as_rgb(img)
        self.height, self.width = self.img.shape[:2]
        self.sheet = Image.fromarray(self.img)
        if self.scale != 1.0:
            size = (max(round(self.width * self.scale), 1), max(round(self.height * self.scale), 1))
            self.sheet = self.sheet.resize(size, Image.Resampling.BILINEAR)
        self.labels = TakenPlaces(*self.sheet.size)

    def get_image(self) -> npt.NDArray[np.uint8]:
        """Return the picture with all drawing, uint8 RGB ``[height * scale, width * scale, 3]``."""
        return rendered(self.canvas) if "canvas" in self.__dict__ else np.array(self.sheet)

    def save(self, filepath: str) -> None:
        """Write the picture.

        Args:
            filepath: file name; its ending chooses the format.
        """
        kind = Image.registered_extensions().get("." + str(filepath).rsplit(".", 1)[-1].lower())
        if kind is None:
            raise BadValue(f"{filepath!r} needs the ending of a picture format: .png, .jpg, .webp, ...")
        options = {"quality": 92} if kind in ("JPEG", "WEBP") else {}
        with atomic_write(str(filepath), "wb") as file:
            Image.fromarray(self.get_image()).save(file, format=kind, **options)

    def _repr_png_(self) -> bytes:
        """Return the picture as PNG, which notebooks show."""
        file = io.BytesIO()
        Image.fromarray(self.get_image()).save(file, format="PNG")
        return file.getvalue()

    # ------------------------------------------------------------------ blending

    def blend(
        self, coverage: npt.NDArray, color: ColorLike, alpha: float, origin: tuple[int, int] = (0, 0)
    ) -> None:
        """Lay a colour over the picture.

        Args:
            coverage: ``[h, w]`` of bool, of uint8 (255 = full) or of float (1 = full), in output pixels.
            color: any colour.
            alpha: opacity where coverage is full.
            origin: ``(x, y)`` of the upper left corner.
        """
        full = min(max(alpha, 0.0), 1.0) * 255
        if full <= 0 or not coverage.size:
            return
        if coverage.dtype == np.bool_:
            weight = coverage.astype(np.uint8) * np.uint8(round(full))
        elif coverage.dtype == np.uint8:
            weight = coverage if full == 255 else np.rint(coverage * np.float32(full / 255)).astype(np.uint8)
        else:
            weight = np.rint(coverage * np.float32(full)).astype(np.uint8)
        self._paste(Image.fromarray(weight), color, origin)

    def _paste(self, weight: Image.Image, color: ColorLike, origin: tuple[int, int]) -> None:
        red, green, blue = (round(255 * v) for v in to_rgb(color))
        self.sheet.paste((red, green, blue), origin, weight)

    def _stamp(self, points: Points, margin: float, paint: Callable, color: ColorLike, alpha: float) -> None:
        """Draw a shape four times as large in the tiles that hold it, shrink it and blend it."""
        finite = points[np.isfinite(points).all(axis=1)]
        if not len(finite):
            return
        low = np.clip(np.floor(finite.min(0) - margin - 1), 0, self.sheet.size).astype(int)
        high = np.clip(np.ceil(finite.max(0) + margin + 1), 0, self.sheet.size).astype(int)
        for top, left in itertools.product(range(low[1], high[1], _TILE), range(low[0], high[0], _TILE)):
            size = (min(_TILE, int(high[0]) - left), min(_TILE, int(high[1]) - top))
            tile = Image.new("L", (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING))
            paint(ImageDraw.Draw(tile), (finite - [left, top]) * _OVERSAMPLING)
            if tile.getbbox() is not None:
                self.blend(np.asarray(tile.reduce(_OVERSAMPLING)), color, alpha, (left, top))

    # ------------------------------------------------------------------ shapes, in coordinates of ``img``

    def fill_polygon(self, points: npt.ArrayLike, color: ColorLike, alpha: float) -> None:
        """Fill a polygon ``[N, 2]``."""
        xy = np.asarray(points, dtype=np.float64).reshape(-1, 2) * self.scale
        if len(xy) >= 3:
            self._stamp(xy, 0, lambda d, p: d.polygon(p.reshape(-1).tolist(), fill=255), color, alpha)

    def stroke(
        self,
        points: npt.ArrayLike,
        color: ColorLike,
        alpha: float,
        width: float,
        style: str = "-",
        closed: bool = False,
    ) -> None:
        """Draw a line through points ``[N, 2]``.

        Args:
            points: corners.
            color: any colour.
            alpha: opacity.
            width: in pixels of the output.
            style: ``-``, ``--``, ``:`` or ``-.``.
            closed: join the last point with the first.
        """
        xy = np.asarray(points, dtype=np.float64).reshape(-1, 2) * self.scale
        if closed and len(xy):
            xy = np.concatenate([xy, xy[:1]])
        if len(xy) < 2 or style in ("", " ", "None"):
            return
        if style != "-":
            if style not in _DASHES:
                raise BadValue(f"line style must be one of {['-', *_DASHES]}, got {style!r}")
            for piece in _dashed(xy, *(width * k for k in _DASHES[style])):
                self._line(piece, color, alpha, width)
        else:
            self._line(xy, color, alpha, width)

    def _line(self, xy: Points, color: ColorLike, alpha: float, width: float) -> None:
        thick = max(round(width * _OVERSAMPLING), 1)

        def paint(draw: ImageDraw.ImageDraw, p: Points) -> None:
            draw.line(p.reshape(-1).tolist(), fill=255, width=thick, joint="curve")
            if len(p) > 2 and (p[0] == p[-1]).all():
                r = thick / 2  # the joint where a closed line begins and ends
                draw.ellipse([*(p[0] - r).tolist(), *(p[0] + r).tolist()], fill=255)

        self._stamp(xy, width, paint, color, alpha)

    def rectangle(self, box: Sequence[float], color: ColorLike, alpha: float, width: float) -> None:
        """Outline of an axis-parallel box XYXY; coverage is computed exactly, without oversampling."""
        x0, y0, x1, y1 = (float(v) * self.scale for v in box)
        if not all(map(math.isfinite, (x0, y0, x1, y1))):
            return
        rgb = to_rgb(color)
        left, right = _edges(x0, x1, width / 2, self.sheet.width)
        top, bottom = _edges(y0, y1, width / 2, self.sheet.height)
        outer_x, inner_x = _coverage(left.start, right.stop, x0, x1, width / 2)
        outer_y, inner_y = _coverage(top.start, bottom.stop, y0, y1, width / 2)
        # two edges over the whole width, and two between them: the inside is not touched
        for rows, columns in (
            (top, slice(left.start, right.stop)),
            (bottom, slice(left.start, right.stop)),
            (slice(top.stop, bottom.start), left),
            (slice(top.stop, bottom.start), right),
        ):
            y = slice(rows.start - top.start, rows.stop - top.start)
            x = slice(columns.start - left.start, columns.stop - left.start)
            covered = outer_y[y, None] * outer_x[x] - inner_y[y, None] * inner_x[x]
            self.blend(covered, rgb, alpha, (columns.start, rows.start))

    def disc(self, center: Sequence[float], color: ColorLike, alpha: float, radius: float) -> None:
        """Fill a circle; the radius is in pixels of the output."""
        xy = np.asarray(center, dtype=np.float64).reshape(1, 2) * self.scale
        big = radius * _OVERSAMPLING
        paint = lambda d, p: d.ellipse([*(p[0] - big).tolist(), *(p[0] + big).tolist()], fill=255)  # noqa: E731
        self._stamp(xy, radius, paint, color, alpha)

    # ------------------------------------------------------------------ text

    def text_size(self, text: str, size: float, rotation: float = 0) -> tuple[int, int]:
        """Return the width and height that a text takes in pixels of the output, as small as it must be to fit.

        Args:
            text: what to write.
            size: height of the letters in pixels of the output.
            rotation: degrees, counter-clockwise.
        """
        return text_size(*fitting(text, size, rotation, *self.sheet.size), rotation)

    def text(
        self,
        text: str,
        position: Sequence[float],
        color: ColorLike,
        size: float,
        align: str = "center",
        rotation: float = 0,
    ) -> None:
        """Write on a dark, rounded ground, which stays inside the picture.

        Args:
            text: what to write.
            position: ``(x, y)`` of the upper edge's left end, middle or right end, as ``align`` says.
            color: colour of the letters.
            size: height of the letters in pixels of the output.
            align: ``left``, ``center`` or ``right``.
            rotation: degrees, counter-clockwise.
        """
        if align not in ("left", "center", "right"):
            raise BadValue(f"horizontal_alignment must be 'left', 'center' or 'right', got {align!r}")
        x, y = (float(v) * self.scale for v in position)
        if not text.strip() or not (math.isfinite(x) and math.isfinite(y)):
            return
        sheet = fitting_sheet(text, size, rotation, *self.sheet.size)
        x -= {"left": 0.0, "center": 0.5, "right": 1.0}[align] * sheet.size[0]
        place = self.labels.clamp(x, y, sheet.size)
        self.labels.take(*place, sheet.size)
        self.blend(np.asarray(sheet.ground), "black", _GROUND_ALPHA, place)
        self._paste(sheet.letters, color, place)


def _as_rgb(img: npt.NDArray) -> npt.NDArray[np.uint8]:
    array = np.asarray(img)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise BadValue(f"img must be [height, width, 3], got {list(array.shape)}")
    if not array.size:
        raise BadValue(f"img has no pixels: its shape is {list(array.shape)}")
    rgb = array[:, :, :3]
    return np.ascontiguousarray(rgb if rgb.dtype == np.uint8 else np.clip(rgb, 0, 255).astype(np.uint8))


def _edges(low: float, high: float, r: float, size: int) -> tuple[slice, slice]:
    """Return the pixels, of ``size``, that the lower and the upper edge of a box touch; edges are ``2 r`` wide."""
    start, end = (min(max(int(v), 0), size) for v in (math.floor(low - r), math.ceil(high + r)))
    first, second = (
        min(max(int(v), start), max(end, start)) for v in (math.ceil(low + r), math.floor(high - r))
    )
    if second < first:  # the edges meet
        first = second = max(end, start)
    return slice(start, first), slice(second, max(end, start))


def _coverage(start: int, end: int, low: float, high: float, r: float) -> tuple[npt.NDArray, npt.NDArray]:
    """Return what share of each pixel from ``start`` to ``end`` a box covers, outside and inside of its outline."""
    borders = np.arange(start, end + 1, dtype=np.float32)
    inner = (low + r, max(high - r, low + r))
    outer_share, inner_share = (
        np.minimum(np.maximum(borders, a), b) for a, b in ((low - r, high + r), inner)
    )
    return outer_share[1:] - outer_share[:-1], inner_share[1:] - inner_share[:-1]


def _dashed(xy: Points, stroke: float, gap: float) -> list[Points]:
    """Pieces ``[2, 2]`` of a polyline, with gaps between."""
    pieces = []
    for a, b in itertools.pairwise(xy):
        length = float(np.hypot(*(b - a)))
        if length == 0:
            continue
        starts = np.arange(0.0, length, max(stroke + gap, 1.0))
        for s in starts:
            pieces.append(np.stack([a + (b - a) * t / length for t in (s, min(s + stroke, length))]))
    return pieces
