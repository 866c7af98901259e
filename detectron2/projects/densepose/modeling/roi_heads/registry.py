"""The registry of this package, defined with the others."""

from ..registries import ROI_DENSEPOSE_HEAD_REGISTRY

__all__ = ["ROI_DENSEPOSE_HEAD_REGISTRY"]
