"""The shapes of the fruit, as distances to their surfaces, and their colours.

Each shape is a signed distance: negative inside, and zero on the surface. Lengths are in units of an apple's radius.
The functions take points ``[n, 3]`` in the frame of the fruit, z up, which stands or lies at the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SHAPES", "Shape", "noise"]

Floats = npt.NDArray[np.float32]

_LATTICE = np.random.default_rng(20).random((32, 32, 32), dtype=np.float32)
_BROWN = (0.23, 0.13, 0.06)


@dataclass(frozen=True)
class Shape:
    """One kind of fruit.

    Attributes:
        distance: of points ``[n, 3]`` to the surface, ``[n]``.
        color: RGB ``[n, 3]`` in ``[0, 1]`` of points on the surface, for a ripeness in ``[0, 1]``.
        height: of the centre above the table.
        reach: radius of the sphere around the centre that holds the whole fruit.
        room: radius of the circle on the table that other fruit keep out of.
        balls: spheres ``(x, y, z, radius)`` that stand for the fruit when it casts its shadow.
        gloss: strength of its highlights.
        bumps: height of the roughness of its skin.
        share: how often it is chosen.
    """

    distance: Callable[[Floats], Floats]
    color: Callable[[Floats, float], Floats]
    height: float
    reach: float
    room: float
    balls: tuple[tuple[float, float, float, float], ...]
    gloss: float = 0.5
    bumps: float = 0.0
    share: float = 1.0


def noise(points: Floats, scale: float) -> Floats:
    """Compute smooth noise in ``[0, 1]``.

    Args:
        points: ``[..., 3]``.
        scale: bumps per unit of length.
    """
    scaled = points * np.float32(scale) + np.float32(64)
    base = np.floor(scaled)
    part = scaled - base
    part = part * part * (3 - 2 * part)
    low = base.astype(np.int32) & 31
    high = (low + 1) & 31
    total = np.zeros(points.shape[:-1], np.float32)
    for corner in range(8):
        index, weight = [], np.ones(points.shape[:-1], np.float32)
        for axis in range(3):
            upper = corner >> axis & 1
            index.append((high if upper else low)[..., axis])
            weight = weight * (part[..., axis] if upper else 1 - part[..., axis])
        total += _LATTICE[tuple(index)] * weight
    return total


def _length(*parts: Floats) -> Floats:
    return np.sqrt(sum(p * p for p in parts))  # type: ignore[return-value]


def _rod(p: Floats, start: tuple[float, ...], end: tuple[float, ...], radius: float) -> Floats:
    """Compute the distance to a rod with round ends."""
    a, b = np.array(start, np.float32), np.array(end, np.float32)
    along = ((p - a) @ (b - a) / np.dot(b - a, b - a)).clip(0, 1)
    return np.linalg.norm(p - a - along[:, None] * (b - a), axis=1) - radius


def _joined(a: Floats, b: Floats, width: float) -> Floats:
    """Join two shapes with a rounded seam."""
    h = (0.5 + 0.5 * (b - a) / width).clip(0, 1)
    return b + (a - b) * h - width * h * (1 - h)


def _blend(a: object, b: object, share: Floats) -> Floats:
    """Mix two colours by a share ``[n]`` of the second."""
    first, second = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return first + (second - first) * share.clip(0, 1)[:, None]


def _apple_body(p: Floats) -> Floats:
    x, y, z = p.T
    waist = 1 - 0.10 * (0.6 - z).clip(0, 2)  # narrower below
    return _length(_length(x, y) / waist - 0.38, z * 1.02) * 0.9 - 0.56


def _apple_stem(p: Floats) -> Floats:
    return _rod(p, (0, 0, 0.3), (0.12, 0.05, 0.82), 0.045)


def _apple(p: Floats) -> Floats:
    return np.minimum(_apple_body(p), _apple_stem(p))


def _apple_color(p: Floats, ripe: float) -> Floats:
    angle = np.stack([p[:, 0], p[:, 1], 0.25 * p[:, 2]], axis=1)
    streaks = noise(angle, 5.0) * 0.6 + noise(angle, 13.0) * 0.4
    flesh = _blend((0.50, 0.58, 0.13), (0.62, 0.04, 0.05), 2.2 * ripe - 0.55 + 0.9 * (streaks - 0.5))
    top = np.exp(-(p[:, 0] ** 2 + p[:, 1] ** 2) / 0.05) * (p[:, 2] > 0)
    flesh = _blend(flesh, (0.42, 0.42, 0.12), 0.8 * top.astype(np.float32))
    return np.where((_apple_stem(p) < _apple_body(p))[:, None], np.float32(_BROWN), flesh)


def _orange(p: Floats) -> Floats:
    return _length(p[:, 0], p[:, 1], p[:, 2] * 1.05) * 0.96 - 0.87


def _orange_color(p: Floats, ripe: float) -> Floats:
    skin = _blend((0.88, 0.36, 0.02), (0.90, 0.24, 0.01), ripe + 0.4 * (noise(p, 3.0) - 0.5))
    return _blend(skin, (0.16, 0.22, 0.05), 1.6 - _length(p[:, 0], p[:, 1]) / 0.09 - 9 * (p[:, 2] < 0))


def _lemon(p: Floats) -> Floats:
    x, y, z = p.T
    body = _length(x * 0.72, y, z) * 0.86 - 0.56
    return _joined(body, _rod(p, (-0.98, 0, 0), (0.98, 0, 0), 0.10), 0.30)


def _lemon_color(p: Floats, ripe: float) -> Floats:
    skin = _blend((0.80, 0.66, 0.05), (0.87, 0.60, 0.03), ripe + 0.5 * (noise(p, 4.0) - 0.5))
    return _blend(skin, (0.40, 0.45, 0.10), (np.abs(p[:, 0]) - 0.95) * 5)


def _pear_body(p: Floats) -> Floats:
    x, y, z = p.T
    lower = _length(x, y, z * 1.03) - 0.82
    upper = _length(x - 0.04, y, z - 0.92) - 0.36
    return _joined(lower, upper, 0.75) * 0.9


def _pear_stem(p: Floats) -> Floats:
    return _rod(p, (0.04, 0, 1.2), (0.2, 0.06, 1.68), 0.05)


def _pear(p: Floats) -> Floats:
    return np.minimum(_pear_body(p), _pear_stem(p))


def _pear_color(p: Floats, ripe: float) -> Floats:
    skin = _blend((0.40, 0.52, 0.08), (0.62, 0.53, 0.10), ripe + 0.8 * (noise(p, 2.0) - 0.5))
    skin = _blend(skin, (0.34, 0.20, 0.05), 4 * (noise(p, 22.0) - 0.75))  # freckles
    return np.where((_pear_stem(p) < _pear_body(p))[:, None], np.float32(_BROWN), skin)


_BEND, _HALF = 2.1, 0.72  # radius of the banana's bend, and half of its angle


def _along_banana(p: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the place along a banana in ``[-1, 1]``, and the offsets outwards and upwards."""
    x, y, z = p[:, 0], p[:, 1] + _BEND - 0.28, p[:, 2]
    angle = np.arctan2(x, y).clip(-_HALF, _HALF)
    return angle / _HALF, x * np.sin(angle) + y * np.cos(angle) - _BEND, z


def _banana(p: Floats) -> Floats:
    place, out, up = _along_banana(p)
    beyond = p[:, 0] * np.cos(place * _HALF) - (p[:, 1] + _BEND - 0.28) * np.sin(place * _HALF)
    corners = 0.015 * np.cos(5 * np.arctan2(up, out))
    thick = 0.12 + 0.27 * np.sqrt((1 - np.abs(place) ** 3).clip(0, 1)) + corners
    return (_length(out, up, beyond) - thick) * 0.8


def _banana_color(p: Floats, ripe: float) -> Floats:
    place, _, _ = _along_banana(p)
    skin = _blend((0.70, 0.66, 0.08), (0.86, 0.60, 0.05), ripe + 0.5 * (noise(p, 1.5) - 0.5))
    skin = _blend(skin, (0.28, 0.15, 0.05), 9 * ripe * (noise(p, 7.0) - 0.80))
    skin = _blend(skin, (0.45, 0.50, 0.10), (np.abs(place) - 0.80) * 4)
    return _blend(skin, (0.12, 0.08, 0.04), (np.abs(place) - 0.97) * 40)


def _berry_body(p: Floats) -> Floats:
    x, y, z = p.T
    across = _length(y, z)
    return (_length(across * (1.05 + 0.35 * (x + 0.5).clip(0, 2)), x * 0.85) - 0.55) * 0.7


def _berry_leaves(p: Floats) -> Floats:
    turn = np.arctan2(p[:, 2], p[:, 1])
    across = _length(p[:, 1], p[:, 2])
    edge = 0.30 + 0.20 * np.cos(6 * turn)
    flat = np.abs(p[:, 0] + 0.60 - 0.35 * across**2) - 0.035
    return np.maximum(flat, across - edge) * 0.6


def _berry(p: Floats) -> Floats:
    return np.minimum(_berry_body(p), _berry_leaves(p))


def _berry_color(p: Floats, ripe: float) -> Floats:
    turn = np.arctan2(p[:, 2], p[:, 1])
    rows = np.floor((p[:, 0] + 1) * 7)
    seeds = np.cos(14 * turn + np.pi * rows) * np.sin(np.pi * ((p[:, 0] + 1) * 7 - rows))
    skin = _blend((0.72, 0.05, 0.05), (0.52, 0.01, 0.04), np.full(len(p), ripe, np.float32))
    skin = _blend(skin, (0.80, 0.55, 0.20), 5 * (seeds - 0.78))
    return np.where((_berry_leaves(p) < _berry_body(p))[:, None], np.float32((0.12, 0.32, 0.05)), skin)


def _banana_balls() -> tuple[tuple[float, float, float, float], ...]:
    angles = np.linspace(-0.9, 0.9, 7) * _HALF
    return tuple(
        (float(_BEND * np.sin(a)), float(_BEND * np.cos(a) - _BEND + 0.28), 0.0, 0.36) for a in angles
    )


SHAPES: dict[str, Shape] = {
    "apple": Shape(_apple, _apple_color, 0.62, 1.10, 1.0, ((0, 0, 0, 0.93),), gloss=0.9),
    "banana": Shape(
        _banana, _banana_color, 0.40, 1.75, 1.5, _banana_balls(), gloss=0.35
    ),
    "lemon": Shape(
        _lemon, _lemon_color, 0.64, 1.15, 1.0,
        ((-0.45, 0, 0, 0.46), (0, 0, 0, 0.64), (0.45, 0, 0, 0.46)), gloss=0.6, bumps=0.010,
    ),
    "orange": Shape(_orange, _orange_color, 0.86, 1.0, 0.98, ((0, 0, 0, 0.90),), gloss=0.55, bumps=0.012),
    "pear": Shape(_pear, _pear_color, 0.80, 1.75, 0.9, ((0, 0, 0, 0.82), (0.04, 0, 0.85, 0.45)), gloss=0.5),
    "strawberry": Shape(
        _berry, _berry_color, 0.48, 0.85, 0.7, ((-0.2, 0, 0, 0.47), (0.25, 0, 0, 0.33)), gloss=0.7, bumps=0.012
    ),
}  # fmt: skip
