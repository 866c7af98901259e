"""A small data set that the package draws itself: toys on a table, labelled for every task.

Tutorials, tests and first steps need pictures that are free to use, small and at hand without a network. Each scene
holds balls, bricks, stars and rings of many colours in front of a wall, partly hidden by one another. The labels are
exact: visible masks and boxes, the tips of the stars as keypoints, boxes that turn with the bricks, and a panoptic
picture.
"""

from __future__ import annotations

import colorsys
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from detectron2.structures.rle import encode, mask_box
from detectron2.utils.errors import BadValue

__all__ = ["KEYPOINTS", "STUFF", "TOYS", "Toy", "draw_scene", "write_toys"]

TOYS = ("ball", "brick", "star", "ring")
STUFF = ("wall", "table")
KEYPOINTS = ("top", "right", "lower_right", "lower_left", "left")
_FINER = 3  # each pixel is drawn as this many squared, which smooths the edges
_LEAST_PIXELS = 10  # a toy of which fewer can be seen has no label

Pixels = npt.NDArray[np.uint8]


@dataclass
class Toy:
    """One toy of a scene.

    Attributes:
        kind: index into ``TOYS``.
        x: of the centre, in pixels.
        y: of the centre, in pixels.
        size: half of its longest side, in pixels.
        angle: in degrees, counter-clockwise.
        color: RGB in ``[0, 1]``.
        mask: bool ``[height, width]``, its visible pixels.
    """

    kind: int
    x: float
    y: float
    size: float
    angle: float
    color: tuple[float, float, float]
    mask: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))

    def turned(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Place points ``[n, 2]``, given in halves of the toy's size, in the picture."""
        turn = math.radians(self.angle)
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        return np.asarray(points, dtype=float) * self.size @ rotation + (self.x, self.y)

    def tips(self) -> npt.NDArray[np.float64]:
        """Return the five tips of a star, clockwise from its top, ``[5, 2]``."""
        return self.turned([_on_circle(72 * i) for i in range(5)])

    def rotated_box(self) -> list[float]:
        """Return the box that turns with the toy: centre, width, height and angle in degrees."""
        height = self.size if TOYS[self.kind] == "brick" else 2 * self.size
        return [self.x, self.y, 2 * self.size, height, self.angle]


def _on_circle(degrees: float, radius: float = 1.0) -> tuple[float, float]:
    """Return the point at this angle, clockwise from the top."""
    turn = math.radians(degrees)
    return radius * math.sin(turn), -radius * math.cos(turn)


def draw_scene(
    rng: np.random.Generator, height: int = 192, width: int = 256, toys: int = 6
) -> tuple[Pixels, list[Toy], npt.NDArray[np.uint8]]:
    """Draw one scene.

    Args:
        rng: source of every choice.
        height: of the picture in pixels, at least 32.
        width: of the picture in pixels, at least 32.
        toys: most toys in it.

    Returns:
        The RGB picture ``[height, width, 3]``; the toys that can be seen; and the stuff behind them
        ``[height, width]``, as indices into ``STUFF``.

    Raises:
        ValueError: if the picture is too small.
    """
    if min(height, width) < 32:
        raise BadValue(f"a scene needs at least 32 x 32 pixels; got {height} x {width}")
    picture, stuff = _background(rng, height, width)
    scene = [_any_toy(rng, height, width) for _ in range(toys)]
    for index, toy in enumerate(scene):
        alpha = _coverage(toy, height, width)
        _paint(picture, toy, alpha)
        toy.mask = alpha >= 0.5
        for other in scene[:index]:  # behind this one
            other.mask &= ~toy.mask
    noise = rng.normal(0.0, 0.012, picture.shape)
    pixels = ((picture + noise).clip(0, 1) * 255).round().astype(np.uint8)
    return pixels, [toy for toy in scene if toy.mask.sum() >= _LEAST_PIXELS], stuff


def _any_toy(rng: np.random.Generator, height: int, width: int) -> Toy:
    size = rng.uniform(0.1, 0.2) * min(height, width)
    return Toy(
        kind=int(rng.integers(len(TOYS))),
        x=rng.uniform(size, width - size),
        y=rng.uniform(size, height - size),
        size=size,
        angle=rng.uniform(-40, 40),
        color=colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.6, 0.95), rng.uniform(0.7, 0.95)),
    )


def _background(
    rng: np.random.Generator, height: int, width: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Paint a wall above a wooden table."""
    edge = int(rng.uniform(0.25, 0.45) * height)
    y, x = np.mgrid[:height, :width]
    wall = np.array(colorsys.hsv_to_rgb(rng.uniform(), 0.12, 0.85)) * (1 - 0.15 * x / width)[..., None]
    grain = 0.04 * np.sin((y + 6 * np.sin(x / 40 + rng.uniform(0, 6))) / 2.5)
    table = np.array([0.62, 0.45, 0.30]) * (0.85 + 0.25 * y / height + grain)[..., None]
    stuff = (y >= edge).astype(np.uint8)
    return np.where(stuff[..., None] == 1, table, wall), stuff


def _coverage(toy: Toy, height: int, width: int) -> npt.NDArray[np.float64]:
    """Compute the part of each pixel that the toy covers, ``[height, width]``."""
    canvas = Image.new("L", (width * _FINER, height * _FINER))
    draw = ImageDraw.Draw(canvas)

    def circle(radius: float, fill: int) -> None:
        left, top = (toy.x - radius) * _FINER, (toy.y - radius) * _FINER
        draw.ellipse((left, top, left + 2 * radius * _FINER, top + 2 * radius * _FINER), fill=fill)

    def polygon(points: npt.ArrayLike) -> None:
        draw.polygon([tuple(p) for p in (toy.turned(points) * _FINER).tolist()], fill=255)

    match TOYS[toy.kind]:
        case "ball":
            circle(toy.size, 255)
        case "brick":
            polygon([(-1, -0.5), (1, -0.5), (1, 0.5), (-1, 0.5)])
        case "star":
            polygon([_on_circle(36 * i, 1.0 if i % 2 == 0 else 0.45) for i in range(10)])
        case "ring":
            circle(toy.size, 255)
            circle(0.5 * toy.size, 0)
    fine = np.asarray(canvas, dtype=float) / 255
    return fine.reshape(height, _FINER, width, _FINER).mean(axis=(1, 3))


def _paint(picture: npt.NDArray[np.float64], toy: Toy, alpha: npt.NDArray[np.float64]) -> None:
    """Paint a shadow, then the toy with light from the upper left, in place."""
    height, width = alpha.shape
    drop = max(1, round(0.12 * toy.size))
    shadow = np.zeros_like(alpha)
    shadow[drop:, drop:] = alpha[:-drop, :-drop]
    picture *= (1 - 0.35 * shadow)[..., None]
    y, x = np.mgrid[:height, :width]
    across, down = (x - toy.x) / toy.size, (y - toy.y) / toy.size
    light = (1.0 - 0.22 * (across + down)).clip(0.55, 1.35)
    if TOYS[toy.kind] == "ball":  # a bright spot
        light = light + 0.6 * np.exp(-((across + 0.4) ** 2 + (down + 0.4) ** 2) / 0.05)
    painted = (np.array(toy.color) * light[..., None]).clip(0, 1)
    picture[:] = picture * (1 - alpha)[..., None] + painted * alpha[..., None]


def write_toys(
    folder: str | Path,
    images: Mapping[str, int] | None = None,
    size: tuple[int, int] = (192, 256),
    toys: int = 6,
    seed: int = 0,
) -> Path:
    """Write a data set of toys in COCO's form, labelled for every task.

    For each part, such as ``train``, the folder gets ``train/*.jpg``, ``train.json`` (boxes and masks),
    ``train_keypoints.json`` (the tips of the stars), ``train_rotated.json`` (boxes with angles), ``train_panoptic/*.png`` with ``train_panoptic.json``, and
    ``train_stuff/*.png`` (a class for each pixel: 0 wall, 1 table, 255 toys).

    Args:
        folder: where to write; made if missing.
        images: number of pictures of each part; by default 40 for ``train`` and 10 for ``val``.
        size: height and width in pixels.
        toys: most toys in one picture.
        seed: the same seed draws the same pictures.

    Returns:
        the folder.
    """
    folder = Path(folder)
    for index, (part, count) in enumerate((images or {"train": 40, "val": 10}).items()):
        _write_part(folder, part, count, size, toys, np.random.default_rng([seed, index]))
    return folder


def _write_part(
    folder: Path, part: str, count: int, size: tuple[int, int], toys: int, rng: np.random.Generator
) -> None:
    for name in (part, f"{part}_panoptic", f"{part}_stuff"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    height, width = size
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    stars: list[dict[str, Any]] = []
    rotated: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    for image_id in range(1, count + 1):
        pixels, scene, stuff = draw_scene(rng, height, width, int(rng.integers(1, toys + 1)))
        name = f"{image_id:04d}"
        Image.fromarray(pixels).save(folder / part / f"{name}.jpg", quality=90)
        pictures.append({"id": image_id, "file_name": f"{name}.jpg", "height": height, "width": width})
        for toy in scene:
            number = len(annotations) + 1
            annotations.append(_annotation(toy, image_id, number))
            rotated.append({**annotations[-1], "bbox": toy.rotated_box(), "segmentation": []})
            if TOYS[toy.kind] == "star":
                stars.append(annotations[-1] | _keypoints(toy))
        labels, segments = _panoptic(scene, stuff)
        Image.fromarray(labels).save(folder / f"{part}_panoptic" / f"{name}.png")
        panoptic.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments})
        hidden = np.any([toy.mask for toy in scene], axis=0) if scene else np.zeros(size, dtype=bool)
        Image.fromarray(np.where(hidden, 255, stuff).astype(np.uint8)).save(
            folder / f"{part}_stuff" / f"{name}.png"
        )
    things = [{"id": index, "name": name} for index, name in enumerate(TOYS, start=1)]
    skeleton = [[1, 2], [2, 3], [3, 4], [4, 5], [5, 1]]
    star = things[TOYS.index("star")] | {"keypoints": list(KEYPOINTS), "skeleton": skeleton}
    segments = [t | {"isthing": 1} for t in things]
    segments += [{"id": len(TOYS) + 1 + i, "name": name, "isthing": 0} for i, name in enumerate(STUFF)]
    for suffix, objects, categories in (
        ("", annotations, things),
        ("_keypoints", stars, [star]),
        ("_rotated", rotated, things),
        ("_panoptic", panoptic, segments),
    ):
        document = {"images": pictures, "annotations": objects, "categories": categories}
        (folder / f"{part}{suffix}.json").write_text(json.dumps(document), encoding="utf-8")


def _annotation(toy: Toy, image_id: int, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": toy.kind + 1,
        "bbox": mask_box(toy.mask),
        "segmentation": encode(toy.mask),
        "area": int(toy.mask.sum()),
        "iscrowd": 0,
    }


def _keypoints(toy: Toy) -> dict[str, Any]:
    height, width = toy.mask.shape
    points: list[float] = []
    for x, y in toy.tips().tolist():
        inside = 0 <= x < width and 0 <= y < height
        points += [x, y, 2] if inside else [0, 0, 0]
    return {"keypoints": points, "num_keypoints": sum(v > 0 for v in points[2::3])}


def _panoptic(scene: list[Toy], stuff: npt.NDArray[np.uint8]) -> tuple[Pixels, list[dict[str, Any]]]:
    """Number the segments, and write the numbers as colours: red + 256 green."""
    ids = np.zeros(stuff.shape, dtype=np.int64)
    segments = []
    shown = [(len(TOYS) + 1 + kind, stuff == kind) for kind in range(len(STUFF))]
    shown += [(toy.kind + 1, toy.mask) for toy in scene]
    for number, (_, mask) in enumerate(shown, start=1):
        ids[mask] = number
    for number, (category, _) in enumerate(shown, start=1):
        mask = ids == number
        if area := int(mask.sum()):
            segments.append(
                {"id": number, "category_id": category, "bbox": mask_box(mask), "area": area, "iscrowd": 0}
            )
    return np.stack((ids % 256, ids // 256, np.zeros_like(ids)), axis=-1).astype(np.uint8), segments
