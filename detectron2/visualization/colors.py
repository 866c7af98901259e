"""Colours: parsing and variation."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from enum import Enum, unique
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detectron2.utils.colormap import colormap
from detectron2.utils.errors import BadValue

Color = tuple[float, float, float]
ColorLike: TypeAlias = str | Sequence[float] | npt.NDArray
"""What :func:`to_rgb` reads."""

# matplotlib's one-letter names, which callers of draw_box and draw_text use
_LETTERS: dict[str, Color] = {
    "b": (0.0, 0.0, 1.0),
    "g": (0.0, 0.5, 0.0),
    "r": (1.0, 0.0, 0.0),
    "c": (0.0, 0.75, 0.75),
    "m": (0.75, 0.0, 0.75),
    "y": (0.75, 0.75, 0.0),
    "k": (0.0, 0.0, 0.0),
    "w": (1.0, 1.0, 1.0),
}

# matplotlib's cycle of colours, "C0" to "C9" and on from the start; their names are written "tab:blue"
_CYCLE = {
    "blue": "#1f77b4",
    "orange": "#ff7f0e",
    "green": "#2ca02c",
    "red": "#d62728",
    "purple": "#9467bd",
    "brown": "#8c564b",
    "pink": "#e377c2",
    "gray": "#7f7f7f",
    "olive": "#bcbd22",
    "cyan": "#17becf",
}
_CYCLE_NUMBER = re.compile(r"C\d+")


@unique
class ColorMode(Enum):
    """How instances are coloured."""

    IMAGE = 0
    """Every instance in a colour of its own, half transparent."""
    SEGMENTATION = 1
    """Instances of one class in shades of the class's colour (``thing_colors`` of the metadata)."""
    IMAGE_BW = 2
    """As ``IMAGE``, on a picture that is grey wherever there is no instance."""


def to_rgb(color: ColorLike) -> Color:
    """Convert a colour to three floats in [0, 1].

    Args:
        color: a letter (``"g"``), a name (``"white"``, ``"tab:blue"``), a number in the cycle (``"C0"``),
            ``"#rrggbb"``, a grey level as text (``"0.5"``), or 3 or 4 numbers in [0, 1]. Alpha is left out, whether
            it is a fourth number or stands beside a name, as in ``("red", 0.5)``.

    Raises:
        ValueError: when it is none of these.
    """
    if isinstance(color, tuple) and len(color) == 3 and all(type(v) is float and 0 <= v <= 1 for v in color):
        return color
    if isinstance(color, str):
        return _named(color)
    if isinstance(color, (list, tuple)) and len(color) == 2 and isinstance(color[0], str):
        return _named(color[0])
    values = np.asarray(color, dtype=np.float64).reshape(-1)
    if values.size not in (3, 4) or not np.isfinite(values).all():
        raise BadValue(f"a colour is a name or 3 numbers in [0, 1], got {color!r}")
    if values.max() > 1.0 + 1e-6 or values.min() < -1e-6:
        raise BadValue(f"colour values lie in [0, 1], got {color!r}; divide 0..255 values by 255")
    r, g, b = np.clip(values[:3], 0.0, 1.0).tolist()
    return r, g, b


def _named(name: str) -> Color:
    from PIL import ImageColor

    if name in _LETTERS:
        return _LETTERS[name]
    if _CYCLE_NUMBER.fullmatch(name):
        name = list(_CYCLE.values())[int(name[1:]) % len(_CYCLE)]
    elif name.lower().startswith("tab:"):
        name = _CYCLE.get(name.lower()[4:].replace("grey", "gray"), name)
    try:
        grey = float(name)
    except ValueError:
        try:
            r, g, b = ImageColor.getrgb(name)[:3]
        except ValueError as error:
            raise BadValue(
                f"unknown colour {name!r}; use a name of CSS, 'C0', 'tab:blue', '#rrggbb' or 3 numbers in [0, 1]"
            ) from error
        return r / 255, g / 255, b / 255
    return grey, grey, grey


def palette_color(index: int) -> Color:
    """Return the colour of the n-th thing; the same in every run."""
    colours = colormap(rgb=True, maximum=1)
    return to_rgb(colours[index % len(colours)])


def change_brightness(color: ColorLike, factor: float) -> Color:
    """Make a colour lighter (factor > 0) or darker (factor < 0).

    Args:
        color: any colour.
        factor: in [-1, 1]: share of the lightness by which it moves towards white or black.
    """
    if not -1.0 <= factor <= 1.0:
        raise BadValue(f"brightness factor must lie in [-1, 1], got {factor}")
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(color))
    lightness = min(max(lightness * (1.0 + factor), 0.0), 1.0)
    return colorsys.hls_to_rgb(hue, lightness, saturation)


def jitter(color: Sequence[float], index: int) -> Color:
    """Vary a colour by an index, so that instances of a class can be told apart."""
    rng = np.random.default_rng(index)
    return to_rgb(np.clip(np.asarray(to_rgb(color)) + rng.uniform(-0.12, 0.12, 3), 0.0, 1.0))


def readable_on_dark(color: ColorLike) -> Color:
    """Lighten a colour until it is readable on a dark ground."""
    rgb = np.maximum(np.asarray(to_rgb(color)), 0.15)
    return to_rgb(rgb / rgb.max())
