"""Datasets with DensePose annotations; the built-in ones register themselves."""

from . import builtin

__all__ = ["builtin"]
