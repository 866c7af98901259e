"""Training of DensePose models."""

from .trainer import Trainer

__all__ = ["Trainer"]
