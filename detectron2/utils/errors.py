"""Errors of what a program or a user gave and that is refused, under all names by which code catches them.

Detectron2 checks much of what it is given by ``assert``, and code around it says ``except AssertionError``. Python
calls the same mistakes ``ValueError``, ``TypeError`` and so on. The classes named ``Bad…`` below are both.

The command line shows the text of an :class:`InputError` alone. Errors of other classes, such as a plain ``TypeError``,
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
    """Something that the user can mend; the text says what and how."""

    def __str__(self) -> str:
        return " ".join(str(part) for part in self.args)  # a KeyError would put its text in quotes


class UserError(InputError):
    """Something that the person at the keyboard can mend; its text is all that they see."""


class CheckFailed(InputError, AssertionError):
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


class UnknownNameError(InputError, KeyError):
    """A name, of a config key or a registered thing, that does not exist."""


class DeviceError(InputError, RuntimeError):
    """A device that this machine or this build of torch does not have."""
