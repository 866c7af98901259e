"""Errors for wrong input from programs or users, of all classes by which code catches them.

Detectron2 checks many inputs with ``assert``, and code that uses it catches ``AssertionError``. Python's own classes for
such mistakes are ``ValueError``, ``TypeError`` and so on. The classes named ``Bad…`` below are both.

The command line only shows the text of an :class:`InputError`. Errors of other classes, such as a plain ``TypeError``,
are defects of the package and keep their traceback.
"""

__all__ = [
    "BadAttribute",
    "BadIndex",
    "BadKey",
    "BadState",
    "BadType",
    "BadValue",
    "CheckFailed",
    "DeviceError",
    "InputError",
    "NoSuchFile",
    "UnknownNameError",
    "UserError",
]


class InputError(Exception):
    """An error that the user can fix; the text says how."""

    def __str__(self) -> str:
        return " ".join(str(part) for part in self.args)  # KeyError would quote its text


class UserError(InputError):
    """Something that the user can correct; the command line shows only its text."""


class CheckFailed(InputError, AssertionError):
    """A wrong argument, for which Detectron2 raises an AssertionError."""


class BadValue(CheckFailed, ValueError):
    """A wrong value."""


class BadType(CheckFailed, TypeError):
    """A value of a wrong type."""


class BadKey(CheckFailed, KeyError):
    """A key or name that does not exist, or is taken."""


class BadAttribute(CheckFailed, AttributeError):
    """An attribute that cannot be set."""


class NoSuchFile(CheckFailed, FileNotFoundError):
    """A file that does not exist."""


class BadIndex(CheckFailed, IndexError):
    """An index that does not select what is needed."""


class BadState(CheckFailed, RuntimeError):
    """A call at the wrong time."""


class UnknownNameError(InputError, KeyError):
    """An unknown config key or registered name."""


class DeviceError(InputError, RuntimeError):
    """A device that this machine or this build of torch does not have."""
