"""The console for tables."""

import sys

from rich.console import Console

__all__ = ["console"]

UNBOUND = 10_000  # columns of a file or pipe, where lines must not wrap


def console(*, stderr: bool = False) -> Console:
    """Return a console that wraps lines only on a terminal, not in a file or pipe."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, markup=False, width=None if stream.isatty() else UNBOUND)
