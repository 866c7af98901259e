"""The options ``--import`` and ``--trust``, which allow configs to name more callables."""

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
    """Allow configs to name callables of imported modules or, with ``trust``, any callable, in a ``with`` block.

    Args:
        imports: modules to import, also from the working directory.
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
                f"--import {name}: there is no module {e.name} in this folder or installed"
            ) from e
    with trusted(trust):
        yield
