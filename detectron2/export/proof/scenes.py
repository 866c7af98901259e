"""Pictures on which a file is tried: the user's own at several sizes, and some with nothing in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..exported import ExportedModel

__all__ = ["Scene", "make_scenes"]

_SCALES = (1.0, 0.75, 1.2)


@dataclass(frozen=True)
class Scene:
    """A picture as the model takes it.

    Attributes:
        name: of the picture, for people.
        image: float32 [C, H, W].
        blank: there is nothing in it.
    """

    name: str
    image: Tensor
    blank: bool = False

    @property
    def size(self) -> str:
        """Height and width as text."""
        return f"{self.image.shape[1]} x {self.image.shape[2]}"


def make_scenes(
    pictures: Sequence[npt.NDArray[Any]], exported: ExportedModel, names: Sequence[str] = ()
) -> list[Scene]:
    """Return pictures in sizes that the file takes: as for prediction, smaller, larger, and two with nothing but faint grain.

    Args:
        pictures: arrays (H, W, C) with channels as the model takes them.
        exported: the file.
        names: of the pictures.
    """
    scenes: list[Scene] = []
    for i, picture in enumerate(pictures):
        name = names[i] if i < len(names) else f"picture {i + 1}"
        image = exported.pad(exported.resize(picture))
        for scale in _SCALES if i == 0 else (1.0, _SCALES[1 + i % 2]):
            scaled = _scaled(image, scale, exported.metadata)
            if scaled is not None and not any(torch.equal(scaled, s.image) for s in scenes):
                scenes.append(Scene(name, scaled))
    mean = torch.tensor(exported.metadata["pixel_mean"] or [0.0] * scenes[0].image.shape[0])
    for scene, colour in zip(scenes[:2], (mean, torch.zeros_like(mean))):
        # On exactly one colour anchors tie, and any of them may be the best.
        grain = torch.randint(0, 5, scene.image.shape, generator=torch.Generator().manual_seed(0))
        scenes.append(Scene("blank", colour[:, None, None] + grain, True))
    return scenes


def _scaled(image: Tensor, scale: float, metadata: dict[str, Any]) -> Tensor | None:
    """Return an image in another size, padded where the file wants it; None where it takes no such size."""
    if scale != 1.0 and not metadata["static"]:
        size = [int(side * scale) for side in image.shape[1:]]
        low, high = metadata["sides"]
        if min(size) < low or max(size) > high:
            return None
        image = F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0].round()
    return image if metadata["static"] is None or scale == 1.0 else None
