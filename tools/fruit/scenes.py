"""Scenes by chance: which fruit lie where, on what, under which light."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from render import GROUNDS, Camera, Fruit, Scene
from shapes import SHAPES

__all__ = ["any_camera", "any_scene"]

_REACH = (4.3, 3.0)  # fruit lie in this ellipse on the table
_TRIES = 60


def any_scene(rng: np.random.Generator, most: int = 9, ground: str | None = None) -> Scene:
    """Lay up to ``most`` fruit on a table; none of them touches another."""
    fruit: list[Fruit] = []
    wanted = int(rng.integers(4, most + 1))
    kinds = list(SHAPES)
    for _ in range(_TRIES):
        if len(fruit) == wanted:
            break
        way, far = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform())
        one = Fruit(
            kind=kinds[int(rng.integers(len(kinds)))],
            x=_REACH[0] * far * math.cos(way),
            y=_REACH[1] * far * math.sin(way),
            size=rng.uniform(0.85, 1.1),
            turn=rng.uniform(0, 2 * math.pi),
            ripe=rng.uniform(),
        )
        if all(math.hypot(one.x - o.x, one.y - o.y) > _room(one) + _room(o) for o in fruit):
            fruit.append(one)
    ground = ground or GROUNDS[int(rng.integers(len(GROUNDS)))]
    side = rng.uniform(-0.6, 0.6)
    return Scene(tuple(fruit), ground, _tint(rng, ground), (side, -0.36, 0.80), rng.uniform(0, 40))


def _room(fruit: Fruit) -> float:
    return 0.92 * SHAPES[fruit.kind].room * fruit.size


def _tint(rng: np.random.Generator, ground: str) -> tuple[float, float, float]:
    match ground:
        case "wood":
            light = rng.uniform(0.25, 1.0)
            return (0.52 * light, 0.30 * light, 0.15 * light)
        case "marble":
            return (0.66, 0.66, 0.68 + rng.uniform(-0.03, 0.03))
        case "cloth":
            return colorsys.hsv_to_rgb(rng.uniform(), 0.75, rng.uniform(0.25, 0.5))
        case _:
            light = rng.uniform(0.05, 0.25)
            return (0.95 * light, light, 1.1 * light)


def any_camera(rng: np.random.Generator) -> Camera:
    """Choose a place of the camera, from low to steep."""
    return Camera(rng.uniform(-0.3, 0.3), rng.uniform(0.5, 1.15), rng.uniform(9.5, 11.5))
