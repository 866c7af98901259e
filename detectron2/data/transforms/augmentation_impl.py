"""The augmentations that come with the package."""

from __future__ import annotations

from detectron2.utils.reexports import passed_on, publish

from .augmentations.color import RandomBrightness, RandomContrast, RandomLighting, RandomSaturation
from .augmentations.crop import FixedSizeCrop, MinIoURandomCrop, RandomCrop, RandomCrop_CategoryAreaConstraint
from .augmentations.geometry import (
    RandomApply,
    RandomEither,
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
    "RandomEither",
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

__getattr__ = passed_on(__name__)

publish(__name__, *(globals()[_name] for _name in __all__))
