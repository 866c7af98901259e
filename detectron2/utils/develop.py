"""Placeholders for names of missing optional packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn

__all__ = ["create_dummy_class", "create_dummy_func"]


def _complaint(name: str, dependency: str | Iterable[str], message: str) -> str:
    needed = dependency if isinstance(dependency, str) else ", ".join(dependency)
    return f"{name} needs {needed}, which cannot be imported here. {message}".rstrip()


def create_dummy_class(klass: str, dependency: str, message: str = "") -> type:
    """Create a class that raises an ImportError naming the missing package when it is used.

    Args:
        klass: name of the missing class.
        dependency: package that provides it.
        message: advice to add to the error.
    """
    text = _complaint(klass, dependency, message)

    class _AlwaysRaises(type):
        def __getattr__(cls, name: str) -> NoReturn:
            if name.startswith("__"):
                raise AttributeError(name)  # keeps inspection and pickling of modules working
            raise ImportError(text)

        def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
            raise ImportError(text)

    return _AlwaysRaises(klass, (), {})


def create_dummy_func(
    func: str, dependency: str | Iterable[str], message: str = ""
) -> Callable[..., NoReturn]:
    """Create a function that raises an ImportError naming the missing packages when it is called.

    Args:
        func: name of the missing function.
        dependency: package or packages that provide it.
        message: advice to add to the error.
    """
    text = _complaint(func, dependency, message)

    def dummy(*args: object, **kwargs: object) -> NoReturn:
        raise ImportError(text)

    dummy.__name__ = func
    return dummy
