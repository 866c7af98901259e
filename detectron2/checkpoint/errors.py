"""Errors of checkpoint files."""

from detectron2.utils.file_io.safe_pickle import UnsafeCheckpointError

__all__ = ["BrokenCheckpointError", "UnsafeCheckpointError", "brief"]


class BrokenCheckpointError(ValueError):
    """A checkpoint file is truncated or damaged."""


def brief(error: Exception) -> str:
    """Format an error as one line."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0][:300] if isinstance(error, ValueError) else f"{type(error).__name__}: {lines[0][:200]}"
