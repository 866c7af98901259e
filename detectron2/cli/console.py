"""The console for tables."""

import sys

from rich.console import Console

__all__ = ["console"]

UNBOUND = 10_000  # columns of a file or pipe, where lines must not wrap


class _Console(Console):
    """A console whose closed pipe ends the command as that of ``print`` does, in ``main``."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Return a console that wraps lines only on a terminal, not in a file or pipe."""
    stream = sys.stderr if stderr else sys.stdout
    return _Console(stderr=stderr, markup=False, width=None if stream.isatty() else UNBOUND)
