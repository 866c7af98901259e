"""Transforms of images for bootstrapping."""

from .image import ImageResizeTransform

__all__ = ["ImageResizeTransform"]
