"""Where tables go."""

import sys

from rich.console import Console

__all__ = ["console"]

UNBOUND = 10_000  # columns; a file or a pipe has no edge to cut at


def console(*, stderr: bool = False) -> Console:
    """Return a console that wraps at the edge of a terminal, and nowhere when the output goes to a file or a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, markup=False, width=None if stream.isatty() else UNBOUND)
