"""What a command line allows the configs of its command to name."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from detectron2.config import trusted

from ..errors import UserError

__all__ = ["trusting"]


@contextmanager
def trusting(imports: Sequence[str], trust: bool) -> Iterator[None]:
    """Import the modules of ``--import``, whose callables configs may then name; ``--trust`` allows all others.

    Args:
        imports: modules, also from the working directory.
        trust: whether configs may name any callable.

    Raises:
        UserError: if a module cannot be found.
    """
    if imports and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in imports:
        try:
            import_module(name)
        except ModuleNotFoundError as e:
            if e.name is None or not f"{name}.".startswith(f"{e.name}."):
                raise
            raise UserError(
                f"--import {name}: there is no module {e.name} here or among the installed ones"
            ) from e
    with trusted(trust):
        yield
