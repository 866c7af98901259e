"""Errors of checkpoint files."""

from detectron2.utils.safe_pickle import UnsafeCheckpointError

__all__ = ["BrokenCheckpointError", "UnsafeCheckpointError"]


class BrokenCheckpointError(ValueError):
    """A checkpoint file is truncated, or its content does not fit the checksums in it."""
