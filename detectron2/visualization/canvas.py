"""The picture that is drawn on: antialiased shapes and text, blended with numpy and Pillow."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from detectron2.utils.errors import BadValue
from detectron2.utils.file_io.atomic import atomic_write

from .colors import ColorLike, to_rgb

_OVERSAMPLING = 4
_DASHES = {"--": (4.0, 2.5), ":": (1.0, 1.5), "-.": (4.0, 2.0)}  # lengths of stroke and gap in line widths
_FALLBACK_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "arial.ttf")

Points = npt.NDArray[np.float64]


class VisImage:
    """An RGB picture and the means to draw on it.

    Attributes:
        img: the picture as given, ``[height, width, 3]``.
        scale: size of the drawing relative to ``img``.
        width, height: size of ``img``; coordinates of all drawing refer to it.
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
        self.img = _as_rgb(img)
        self.height, self.width = self.img.shape[:2]
        self._setup_figure(self.img)

    def __getattr__(self, name: str) -> Any:
        if name in ("fig", "ax", "canvas"):
            raise AttributeError(
                f"VisImage has no {name}: nothing is drawn with Matplotlib. Draw on the array that get_image() returns."
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _setup_figure(self, img: npt.NDArray) -> None:
        """Prepare what is drawn on: a copy of ``img``, larger by ``scale``."""
        if self.scale == 1.0:
            self._pixels = img.copy()
            return
        size = (max(round(self.width * self.scale), 1), max(round(self.height * self.scale), 1))
        self._pixels = np.array(Image.fromarray(img).resize(size, Image.Resampling.BILINEAR))

    def reset_image(self, img: npt.NDArray) -> None:
        """Begin anew with a picture; what was drawn is gone.

        Args:
            img: as in the constructor.
        """
        self.img = _as_rgb(img)
        self.height, self.width = self.img.shape[:2]
        self._setup_figure(self.img)

    def get_image(self) -> npt.NDArray[np.uint8]:
        """Return the picture with all drawing, uint8 RGB ``[height * scale, width * scale, 3]``."""
        return self._pixels

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
            Image.fromarray(self._pixels).save(file, format=kind, **options)

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
        x, y = origin
        h, w = coverage.shape
        target = self._pixels[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
        th, tw = target.shape[:2]
        if not th or not tw or alpha <= 0:
            return
        coverage = coverage[max(-y, 0) :, max(-x, 0) :][:th, :tw]
        rgb = np.asarray(to_rgb(color), dtype=np.float32) * 255
        if coverage.dtype == np.bool_:
            chosen = target[coverage].astype(np.float32)  # [P, 3]
            target[coverage] = np.rint(chosen + alpha * (rgb - chosen)).astype(np.uint8)
            return
        full = 255.0 if coverage.dtype == np.uint8 else 1.0
        weight = (coverage.astype(np.float32) * (alpha / full))[:, :, None]
        base = target.astype(np.float32)
        target[:] = np.rint(base + weight * (rgb - base)).astype(np.uint8)

    def _stamp(self, points: Points, margin: float, paint: Callable, color: ColorLike, alpha: float) -> None:
        """Draw a shape four times as large in the window that holds it, shrink it and blend it."""
        finite = points[np.isfinite(points).all(axis=1)]
        if not len(finite):
            return
        h, w = self._pixels.shape[:2]
        low = np.clip(np.floor(finite.min(0) - margin - 1), 0, [w, h]).astype(int)
        high = np.clip(np.ceil(finite.max(0) + margin + 1), 0, [w, h]).astype(int)
        size = high - low
        if (size <= 0).any():
            return
        sheet = Image.new("L", tuple((size * _OVERSAMPLING).tolist()))
        paint(ImageDraw.Draw(sheet), (finite - low) * _OVERSAMPLING)
        self.blend(np.asarray(sheet.reduce(_OVERSAMPLING)), color, alpha, (int(low[0]), int(low[1])))

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
        h, w = self._pixels.shape[:2]
        r = width / 2
        outer = np.outer(_coverage(y0 - r, y1 + r, h), _coverage(x0 - r, x1 + r, w))
        inner = np.outer(_coverage(y0 + r, y1 - r, h), _coverage(x0 + r, x1 - r, w))
        rows, columns = (np.flatnonzero(outer.any(axis=k)) for k in (1, 0))
        if not len(rows) or not len(columns):
            return
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        self.blend((outer - inner)[window], color, alpha, (int(columns[0]), int(rows[0])))

    def disc(self, center: Sequence[float], color: ColorLike, alpha: float, radius: float) -> None:
        """Fill a circle; the radius is in pixels of the output."""
        xy = np.asarray(center, dtype=np.float64).reshape(1, 2) * self.scale
        big = radius * _OVERSAMPLING
        paint = lambda d, p: d.ellipse([*(p[0] - big).tolist(), *(p[0] + big).tolist()], fill=255)  # noqa: E731
        self._stamp(xy, radius, paint, color, alpha)

    def text(
        self,
        text: str,
        position: Sequence[float],
        color: ColorLike,
        size: float,
        align: str = "center",
        rotation: float = 0,
    ) -> None:
        """Text on a dark, rounded ground.

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
        letters, ground = _text_sheets(text, max(round(size), 6))
        if rotation:
            letters, ground = (
                s.rotate(rotation, Image.Resampling.BICUBIC, expand=True) for s in (letters, ground)
            )
        h, w = self._pixels.shape[:2]
        x, y = (float(v) * self.scale for v in position)
        x -= {"left": 0.0, "center": 0.5, "right": 1.0}[align] * ground.width
        # a label stays inside the picture as far as it fits
        left = int(min(max(round(x), 0), max(w - ground.width, 0)))
        top = int(min(max(round(y), 0), max(h - ground.height, 0)))
        self.blend(np.asarray(ground), "black", 0.72, (left, top))
        self.blend(np.asarray(letters), color, 1.0, (left, top))


def _as_rgb(img: npt.NDArray) -> npt.NDArray[np.uint8]:
    array = np.asarray(img)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise BadValue(f"img must be [height, width, 3], got {list(array.shape)}")
    return np.clip(array[:, :, :3], 0, 255).astype(np.uint8)


def _coverage(low: float, high: float, size: int) -> npt.NDArray[np.float32]:
    """Return the share of each of ``size`` unit pixels that lies in [low, high]."""
    edges = np.arange(size + 1, dtype=np.float64)
    inside = np.clip(edges, low, max(low, high))
    return np.diff(inside).astype(np.float32)


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


@functools.lru_cache(maxsize=64)
def _font(size: int, wide: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font; one of the system's for letters that it lacks."""
    if wide:
        for name in _FALLBACK_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=512)
def _text_sheets(text: str, size: int) -> tuple[Image.Image, Image.Image]:
    """Return the coverage of the letters and of the ground behind them, equally large."""
    font = _font(size, any(ord(c) > 0xFF for c in text))
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, _top, right, bottom = probe.multiline_textbbox((0, 0), text, font=font)
    # letters without ascenders get the same ground as those with
    ascent, descent = font.getmetrics() if hasattr(font, "getmetrics") else (bottom, 0)
    pad = max(round(size * 0.2), 1)
    lines = text.count("\n")
    height = max(int(bottom), int(ascent + descent // 2)) if lines == 0 else int(bottom)
    shape = (int(right - min(left, 0)) + 2 * pad + 1, height + 2 * pad)
    letters = Image.new("L", shape)
    ImageDraw.Draw(letters).multiline_text((pad - min(left, 0), pad), text, fill=255, font=font)
    ground = Image.new("L", shape)
    ImageDraw.Draw(ground).rounded_rectangle([0, 0, shape[0] - 1, shape[1] - 1], radius=pad, fill=255)
    return letters, ground
