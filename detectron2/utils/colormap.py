"""Distinct colours for drawing."""

from __future__ import annotations

import colorsys
import random

import numpy as np
import numpy.typing as npt

__all__ = ["colormap", "random_color", "random_colors"]

_COUNT = 74
_GOLDEN_RATIO = (5**0.5 - 1) / 2
# Saturation and value of successive colours; neighbours in the list differ in hue, distant ones also in tone.
_TONES = ((0.80, 1.00), (0.65, 0.85), (0.95, 0.80), (0.50, 1.00))


def _make_palette() -> npt.NDArray[np.float32]:
    """Return [74, 3] RGB in [0, 1], with hues a golden ratio apart, so that the first few are always distinct."""
    colours = []
    for k in range(_COUNT):
        # hues come close again after 8, 13, 21 ... colours: the extra step gives those another tone
        saturation, value = _TONES[(k + k // 8) % len(_TONES)]
        colours.append(colorsys.hsv_to_rgb((0.58 + k * _GOLDEN_RATIO) % 1.0, saturation, value))
    return np.array(colours, dtype=np.float32)


_PALETTE = _make_palette()


def colormap(rgb: bool = False, maximum: float = 255) -> npt.NDArray[np.float32]:
    """Return a list of colours that are easy to tell apart.

    Args:
        rgb: RGB order; BGR otherwise.
        maximum: value of full intensity, 255 or 1.

    Returns:
        float32 ``[74, 3]`` in ``[0, maximum]``.
    """
    if maximum not in (1, 255):
        raise ValueError(f"maximum must be 1 or 255, got {maximum}")
    colours = _PALETTE * np.float32(maximum)
    return colours if rgb else np.ascontiguousarray(colours[:, ::-1])


def random_color(rgb: bool = False, maximum: float = 255) -> npt.NDArray[np.float32]:
    """Return a random colour of :func:`colormap`.

    Args:
        rgb: RGB order; BGR otherwise.
        maximum: value of full intensity, 255 or 1.

    Returns:
        float32 ``[3]``.
    """
    return colormap(rgb, maximum)[random.randrange(_COUNT)]


def random_colors(N: int, rgb: bool = False, maximum: float = 255) -> list[npt.NDArray[np.float32]]:
    """Return random colours of :func:`colormap`, different from each other up to 74.

    Args:
        N: number of colours.
        rgb: RGB order; BGR otherwise.
        maximum: value of full intensity, 255 or 1.

    Returns:
        N arrays, float32 ``[3]``.
    """
    palette = colormap(rgb, maximum)
    chosen: list[int] = []
    while len(chosen) < N:
        chosen += random.sample(range(_COUNT), min(N - len(chosen), _COUNT))
    return [palette[i] for i in chosen]
