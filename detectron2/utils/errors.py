"""Errors of arguments that are refused, under both names by which code catches them.

Detectron2 checks much of what it is given by ``assert``, and code around it says ``except AssertionError``. Python
calls the same mistakes ``ValueError``, ``TypeError`` and so on. The classes below are both.
"""

__all__ = [
    "BadAttribute",
    "BadIndex",
    "BadKey",
    "BadState",
    "BadType",
    "BadValue",
    "CheckFailed",
    "NoSuchFile",
]


class CheckFailed(AssertionError):
    """An argument was refused where Detectron2 asserts that it is right."""


class BadValue(CheckFailed, ValueError):
    """A refused value."""


class BadType(CheckFailed, TypeError):
    """A value of a type that is refused."""


class BadKey(CheckFailed, KeyError):
    """A key or name that is not there, or taken."""


class BadAttribute(CheckFailed, AttributeError):
    """An attribute that cannot be set."""


class NoSuchFile(CheckFailed, FileNotFoundError):
    """A file that is not there."""


class BadIndex(CheckFailed, IndexError):
    """An index that does not select what is needed."""


class BadState(CheckFailed, RuntimeError):
    """A call at the wrong time."""
