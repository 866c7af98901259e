"""The registry of this package, defined with the others."""

from ..registries import DENSEPOSE_PREDICTOR_REGISTRY

__all__ = ["DENSEPOSE_PREDICTOR_REGISTRY"]
