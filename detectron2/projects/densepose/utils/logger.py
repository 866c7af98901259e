"""Verbosity of the command-line programs."""

import logging

__all__ = ["verbosity_to_level"]


def verbosity_to_level(verbosity: int | None) -> int:
    """Convert the number of ``-v`` flags to a logging level: 0 = warning, 1 = info, more = debug."""
    if not verbosity:
        return logging.WARNING
    return logging.INFO if verbosity == 1 else logging.DEBUG
