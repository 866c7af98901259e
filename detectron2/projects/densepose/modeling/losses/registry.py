"""The registry of this package, defined with the others."""

from ..registries import DENSEPOSE_LOSS_REGISTRY

__all__ = ["DENSEPOSE_LOSS_REGISTRY"]
