"""Pictures of fruit on a table, computed by following one ray of light for each quarter of a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from shapes import SHAPES, Floats, noise

__all__ = ["GROUNDS", "Camera", "Fruit", "Scene", "render"]

GROUNDS = ("wood", "marble", "cloth", "slate")
_FINER = 2  # each pixel is computed from this many squared rays, which smooths the edges
_STEPS = 40
_NEAR = np.float32(0.004)  # a ray this close to a surface has hit it
_LAMP = np.array([1.25, 1.15, 1.00], np.float32)
_SKY = np.array([0.36, 0.42, 0.50], np.float32)

Indices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Fruit:
    """One fruit on the table.

    Attributes:
        kind: name in ``SHAPES``.
        x: of its centre on the table.
        y: of its centre on the table, away from the camera.
        size: factor of its lengths.
        turn: about the vertical axis, in radians.
        ripe: from 0 to 1, changes its colour.
    """

    kind: str
    x: float
    y: float
    size: float
    turn: float
    ripe: float

    @property
    def center(self) -> Floats:
        """The centre, ``[3]``."""
        return np.array([self.x, self.y, SHAPES[self.kind].height * self.size], np.float32)

    @property
    def axes(self) -> Floats:
        """The rotation from the fruit's frame to that of the table, ``[3, 3]``."""
        c, s = math.cos(self.turn), math.sin(self.turn)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)

    def balls(self) -> Floats:
        """Return the spheres that stand for it in shadows, ``[n, 4]``."""
        balls = np.array(SHAPES[self.kind].balls, np.float32) * self.size
        return np.concatenate([balls[:, :3] @ self.axes.T + self.center, balls[:, 3:]], axis=1)

    def local(self, points: Floats) -> Floats:
        """Place points ``[n, 3]`` in the fruit's frame."""
        return (points - self.center) @ self.axes / np.float32(self.size)


@dataclass(frozen=True)
class Camera:
    """Where the picture is taken from.

    Attributes:
        turn: about the middle of the table, in radians.
        rise: above the table, in radians.
        distance: from the middle of the table.
        width: of the view, as a multiple of the distance.
    """

    turn: float = 0.0
    rise: float = 0.75
    distance: float = 11.0
    width: float = 0.95

    def rays(self, height: int, width: int) -> tuple[Floats, Floats]:
        """Return the place of the camera ``[3]`` and unit directions ``[height, width, 3]``."""
        c, s = math.cos(self.rise), math.sin(self.rise)
        back = np.array([math.sin(self.turn) * c, -math.cos(self.turn) * c, s])
        right = np.array([math.cos(self.turn), math.sin(self.turn), 0.0])
        up = np.cross(back, right)
        x = (np.arange(width) + 0.5 - width / 2) / width * self.width
        y = (height / 2 - np.arange(height) - 0.5) / width * self.width
        rays = x[None, :, None] * right + y[:, None, None] * up - back
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        return (back * self.distance).astype(np.float32), rays.astype(np.float32)


@dataclass(frozen=True)
class Scene:
    """What is on the table.

    Attributes:
        fruit: in any order.
        ground: one of ``GROUNDS``.
        tint: RGB of the ground.
        lamp: unit vector towards the lamp.
        shift: of the ground's pattern.
    """

    fruit: tuple[Fruit, ...]
    ground: str = "wood"
    tint: tuple[float, float, float] = (0.5, 0.3, 0.15)
    lamp: tuple[float, float, float] = (-0.48, -0.36, 0.80)
    shift: float = 0.0


def render(
    scene: Scene, camera: Camera, height: int = 240, width: int = 320
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Draw a scene.

    Args:
        scene: what to draw.
        camera: where from.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        The RGB picture ``[height, width, 3]``, and the visible pixels of each fruit ``[fruit, height, width]``.
    """
    eye, rays = camera.rays(height * _FINER, width * _FINER)
    shape = rays.shape[:2]
    flat = rays.reshape(-1, 3)
    depth, owner = _hits(scene, eye, flat)
    points = eye + flat * depth[:, None]
    normals = np.zeros_like(points)
    normals[:, 2] = 1
    colors = np.empty_like(points)
    gloss = np.full(len(points), 0.12, np.float32)
    table = owner < 0
    colors[table] = _ground(scene, points[table])
    for index, fruit in enumerate(scene.fruit):
        hit = owner == index
        if hit.any():
            colors[hit], normals[hit] = _skin(fruit, points[hit])
            gloss[hit] = SHAPES[fruit.kind].gloss
    light = _shade(scene, owner, points, normals, colors, gloss, -flat)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    light *= (1 - 0.16 * (x * x + y * y)).astype(np.float32).reshape(-1, 1)
    tones = 1 - np.exp(-1.25 * light)  # bright places do not burn out
    picture = np.sqrt(tones).reshape(height, _FINER, width, _FINER, 3).mean(axis=(1, 3))
    fine = owner.reshape(height, _FINER, width, _FINER)
    masks = np.zeros((len(scene.fruit), height, width), bool)
    for i in range(len(masks)):  # of two that share a pixel equally, the first one gets it
        masks[i] = ((fine == i).mean(axis=(1, 3)) >= 0.5) & ~masks[:i].any(axis=0)
    return (picture * 255).round().astype(np.uint8), masks


def _hits(scene: Scene, eye: Floats, rays: Floats) -> tuple[Floats, Indices]:
    """Return how far each ray goes, and the index of the fruit that it hits or -1 for the table."""
    depth = -eye[2] / np.minimum(rays[:, 2], np.float32(-1e-3))
    owner = np.full(len(rays), -1, np.int32)
    for index, fruit in enumerate(scene.fruit):
        shape = SHAPES[fruit.kind]
        to_center = fruit.center - eye
        nearest = rays @ to_center
        reach = np.float32(shape.reach * fruit.size)
        room = reach**2 - (to_center @ to_center - nearest**2)
        alive = np.flatnonzero(room > 0)
        half = np.sqrt(room[alive])
        start, end = nearest[alive] - half, np.minimum(nearest[alive] + half, depth[alive])
        for _ in range(_STEPS):
            going = start < end
            alive, start, end = alive[going], start[going], end[going]
            gap = shape.distance(fruit.local(eye + rays[alive] * start[:, None])) * np.float32(fruit.size)
            hit = gap < _NEAR
            depth[alive[hit]], owner[alive[hit]] = start[hit], index
            alive, start, end, gap = alive[~hit], start[~hit], end[~hit], gap[~hit]
            start = start + gap
    return depth, owner


def _skin(fruit: Fruit, points: Floats) -> tuple[Floats, Floats]:
    """Return colours and unit normals of points on a fruit, ``[n, 3]`` each."""
    shape = SHAPES[fruit.kind]
    local = fruit.local(points)

    def surface(p: Floats) -> Floats:
        return shape.distance(p) + shape.bumps * noise(p, 16.0) if shape.bumps else shape.distance(p)

    slope = np.zeros_like(local)
    for signs in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        step = np.array(signs, np.float32)
        slope += step * surface(local + np.float32(0.012) * step)[:, None]
    slope /= np.linalg.norm(slope, axis=1, keepdims=True) + np.float32(1e-9)
    return shape.color(local, fruit.ripe), slope @ fruit.axes.T


def _ground(scene: Scene, points: Floats) -> Floats:
    """Return the colours of points on the table, ``[n, 3]``."""
    p = points + np.float32(scene.shift)
    tint = np.array(scene.tint, np.float32)
    flat = p * np.array([1, 1, 0], np.float32)
    match scene.ground:
        case "wood":
            board = np.floor(p[:, 1] / 1.7)
            along = np.stack([p[:, 0] * 0.12 + board * 7.3, p[:, 1], board], axis=1)
            rings = np.sin(22 * (noise(along, 1.1) + 0.25 * p[:, 1]))
            tone = 0.86 + 0.10 * rings + 0.30 * (noise(along * np.float32((1, 6, 1)), 3.0) - 0.5)
            seam = np.abs(p[:, 1] / 1.7 - board - 0.5) > 0.488
            tone = tone * (0.90 + 0.2 * noise(along[:, [2, 2, 2]], 1.7)) * np.where(seam, 0.55, 1.0)
        case "marble":
            cloud = noise(flat, 0.5) + 0.5 * noise(flat, 1.3) + 0.25 * noise(flat, 4.0)
            vein = np.abs(np.sin(1.6 * p[:, 0] + 0.9 * p[:, 1] + 7 * cloud))
            tone = 0.72 + 0.28 * np.sqrt(vein) + 0.06 * (cloud - 0.8)
        case "cloth":
            stripes = [(np.floor(p[:, axis] / 0.8) % 2 == 0).astype(np.float32) for axis in (0, 1)]
            weave = 0.06 * np.sin(p[:, 0] * 42) * np.sin(p[:, 1] * 42)
            share = (stripes[0] + stripes[1]) / 2
            white = np.float32((0.86, 0.84, 0.80))
            return (white + (tint - white) * share[:, None]) * (1 + weave)[:, None].astype(np.float32)
        case _:
            tone = 0.75 + 0.5 * (noise(flat, 1.2) - 0.5) + 0.35 * (noise(flat, 9.0) - 0.5)
    return tint * tone[:, None].astype(np.float32)


def _shade(
    scene: Scene,
    owner: Indices,
    points: Floats,
    normals: Floats,
    colors: Floats,
    gloss: Floats,
    views: Floats,
) -> Floats:
    """Return the light that goes from each point to the camera, ``[n, 3]``."""
    lamp = np.array(scene.lamp, np.float32)
    lamp /= np.linalg.norm(lamp)
    lit, sky = _shadows(scene, owner, points, normals, lamp)
    facing = (normals @ lamp + 0.15).clip(0, None) / 1.15
    upward = 0.5 + 0.5 * normals[:, 2]
    low = np.exp(-2.5 * points[:, 2].clip(0, None)) * (owner >= 0)  # close to the table it is dark
    sky = sky * (1 - 0.6 * low)
    bounce = np.array(scene.tint, np.float32) * 0.55
    light = _LAMP * (facing * lit)[:, None] + _SKY * (sky * (0.3 + 0.7 * upward))[:, None]
    light += bounce * ((1 - upward) * sky)[:, None]
    half = views + lamp
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    shine = (normals * half).sum(axis=1).clip(0, 1)
    rim = (1 - (normals * views).sum(axis=1).clip(0, 1)) ** 4
    bright = gloss * (0.55 * shine**70 + 0.10 * shine**12) * lit
    return colors * light + bright[:, None] * _LAMP + (gloss * 0.18 * rim * sky)[:, None] * _SKY


def _shadows(
    scene: Scene, owner: Indices, points: Floats, normals: Floats, lamp: Floats
) -> tuple[Floats, Floats]:
    """Return the share of the lamp and of the sky that each point sees, ``[n]`` each."""
    lit = np.ones(len(points), np.float32)
    sky = np.ones(len(points), np.float32)
    for index, fruit in enumerate(scene.fruit):
        for *center, radius in fruit.balls():
            away = np.array(center, np.float32) - points
            square = (away * away).sum(axis=1)
            near = np.flatnonzero((square < 30 * radius * radius) & (owner != index))
            away, square = away[near], square[near]
            towards = away @ lamp
            gap = np.sqrt((square - towards * towards).clip(0, None))
            soft = 0.06 + 0.10 * towards.clip(0, None)
            share = ((gap - radius) / soft * 0.5 + 0.5).clip(0, 1)
            share = np.where(towards > 0, share * share * (3 - 2 * share), 1)
            lit[near] *= np.where(square < radius**2, 0, share)
            seen = ((normals[near] * away).sum(axis=1) / np.sqrt(square + 1e-6)).clip(0, 1)
            sky[near] *= 1 - (seen * radius**2 / (square + 1e-3)).clip(0, 0.85)
    return lit, sky
