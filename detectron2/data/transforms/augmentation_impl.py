"""The augmentations that come with the package."""

from __future__ import annotations

from .augmentations.color import RandomBrightness, RandomContrast, RandomLighting, RandomSaturation
from .augmentations.crop import FixedSizeCrop, MinIoURandomCrop, RandomCrop, RandomCrop_CategoryAreaConstraint
from .augmentations.geometry import (
    RandomApply,
    RandomExtent,
    RandomFlip,
    RandomResize,
    RandomRotation,
    Resize,
    ResizeScale,
    ResizeShortestEdge,
)

__all__ = [
    "FixedSizeCrop",
    "MinIoURandomCrop",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomLighting",
    "RandomResize",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]

# Pickles and dumped configs name the public module.
for _name in __all__:
    globals()[_name].__module__ = __name__
