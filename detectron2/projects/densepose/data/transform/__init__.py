"""Transforms of images that are read for bootstrapping."""

from .image import ImageResizeTransform

__all__ = ["ImageResizeTransform"]
