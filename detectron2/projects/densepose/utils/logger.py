"""Verbosity of the command-line programs."""

import logging

__all__ = ["verbosity_to_level"]


def verbosity_to_level(verbosity: int | None) -> int:
    """Turn the number of ``-v`` flags into a logging level: none warns, one informs, more debug."""
    if not verbosity:
        return logging.WARNING
    return logging.INFO if verbosity == 1 else logging.DEBUG
