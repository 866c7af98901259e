"""Texts as coverage: letters, and the rounded ground that they stand on."""

from __future__ import annotations

import functools
from typing import NamedTuple

from PIL import Image, ImageDraw

from .fonts import BUILT_IN, open_font, split_by_font

__all__ = ["SMALLEST_LETTERS", "TextSheet", "fitting", "fitting_sheet", "text_sheet", "text_size"]

SMALLEST_LETTERS = 8  # pixels: smaller ones cannot be read
_SHRINK = 0.9


class TextSheet(NamedTuple):
    """A text ready to be laid on a picture.

    Attributes:
        letters: coverage of the letters, mode ``L``.
        ground: coverage of the ground behind them, of the same size.
    """

    letters: Image.Image
    ground: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.ground.size


class _Line(NamedTuple):
    """A line of text, measured from its baseline."""

    pieces: list[tuple[str, str]]
    width: int
    above: int
    below: int


class _Layout(NamedTuple):
    """A text's lines, the margin around them, and the width and height of all."""

    lines: list[_Line]
    pad: int
    shape: tuple[int, int]


def fitting_sheet(text: str, size: float, rotation: float, width: int, height: int) -> TextSheet:
    """Draw a text that fits into a picture: smaller, and in the end shorter, than asked where it must be.

    Args:
        text: what to write.
        size: wanted height of the letters in pixels.
        rotation: degrees, counter-clockwise.
        width: of the picture.
        height: of the picture.
    """
    return text_sheet(*fitting(text, size, rotation, width, height), rotation)


def fitting(text: str, size: float, rotation: float, width: int, height: int) -> tuple[str, int]:
    """Return the text and the size of its letters with which it fits into a picture; see :func:`fitting_sheet`."""

    def fits(shown: str) -> bool:
        w, h = text_size(shown, letters, rotation)
        return w <= width and h <= height

    letters = max(round(size), SMALLEST_LETTERS)
    while letters > SMALLEST_LETTERS and not fits(text):
        letters = max(int(letters * _SHRINK), SMALLEST_LETTERS)
    kept, shown = len(text), text
    while kept > 1 and not fits(shown):
        kept -= 1
        shown = text[:kept].rstrip() + "…"
    return shown, letters


def text_size(text: str, size: int, rotation: float = 0) -> tuple[int, int]:
    """Return the width and height that a text takes; arguments as for :func:`text_sheet`."""
    return text_sheet(text, size, rotation).size if rotation else _layout(text, size).shape


@functools.lru_cache(maxsize=1024)
def text_sheet(text: str, size: int, rotation: float = 0) -> TextSheet:
    """Draw a text.

    Args:
        text: one or more lines.
        size: height of the letters in pixels.
        rotation: degrees, counter-clockwise.
    """
    lines, pad, shape = _layout(text, size)
    letters = Image.new("L", shape)
    pen = ImageDraw.Draw(letters)
    baseline = pad
    for line in lines:
        baseline += line.above
        x = float(pad)
        for path, piece in line.pieces:
            font = open_font(path, size)
            pen.text((x, baseline), piece, fill=255, font=font, anchor="ls")
            x += font.getlength(piece)
        baseline += line.below
    ground = Image.new("L", shape)
    ImageDraw.Draw(ground).rounded_rectangle([0, 0, shape[0] - 1, shape[1] - 1], radius=pad, fill=255)
    if rotation:
        letters, ground = (
            s.rotate(rotation, Image.Resampling.BICUBIC, expand=True) for s in (letters, ground)
        )
    return TextSheet(letters, ground)


@functools.lru_cache(maxsize=4096)
def _layout(text: str, size: int) -> _Layout:
    lines = [_measure(line, size) for line in text.split("\n")]
    pad = max(round(size * 0.2), 1)
    width = max(line.width for line in lines) + 2 * pad
    return _Layout(lines, pad, (width, sum(line.above + line.below for line in lines) + 2 * pad))


def _measure(line: str, size: int) -> _Line:
    ascent, descent = open_font(BUILT_IN, size).getmetrics()
    # letters without ascenders get the same ground as those with
    width, above, below = 0.0, ascent, descent // 2
    pieces = split_by_font(line)
    for path, piece in pieces:
        font = open_font(path, size)
        _, top, right, bottom = font.getbbox(piece, anchor="ls")
        above, below = max(above, -int(top)), max(below, int(bottom))
        width += max(font.getlength(piece), right if piece is pieces[-1][1] else 0)
    return _Line(pieces, int(width) + 1, above, below)
