"""Errors of checkpoint files."""

__all__ = ["BrokenCheckpointError", "UnsafeCheckpointError"]


class BrokenCheckpointError(ValueError):
    """A checkpoint file is truncated, or its content does not fit the checksums in it."""


class UnsafeCheckpointError(ValueError):
    """A file asks for code to be run while it is read; nothing of it was run."""
