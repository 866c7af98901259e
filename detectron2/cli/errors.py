"""Errors as the command line shows them."""

import errno
import re
import sys

from detectron2.utils.errors import InputError, UserError

__all__ = ["INPUT_ERRORS", "UserError", "environment_problem", "problem_of", "text_of"]


INPUT_ERRORS = (InputError, ValueError, OSError, ImportError)
"""What bad input and a machine that lacks something raise. Anything else is a defect of the package."""

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
# The line that ends a traceback; our own errors are not all named …Error.
_RAISED_IN_WORKER = re.compile(
    r"^(?:detectron2(?:\.\w+)+|[A-Za-z_][\w.]*(?:Error|Exception|Interrupt))\b(?::\s*)?", re.MULTILINE
)


def text_of(error: BaseException) -> str:
    """Return the text of an error, without the traceback that torch puts into errors of loader workers."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"disk full: {error}"
    if "Traceback (most recent call last)" in text:
        # Each line of a traceback is indented, the error at its end is not.
        found = list(_RAISED_IN_WORKER.finditer(text))
        return text[found[-1].end() :].strip() if found else text.strip().splitlines()[-1]
    return text


def problem_of(error: Exception) -> str | None:
    """Return what to tell the user about an error; None if it is a defect of the package, whose traceback is wanted."""
    if type(error).__name__ == "ProcessRaisedException":  # of torch, which is not imported for this
        return _problem_in_process(str(error))
    return text_of(error) if isinstance(error, INPUT_ERRORS) else environment_problem(error)


def _problem_in_process(text: str) -> str | None:
    """Return what to tell about an error of another process, of which the traceback is known."""
    found = list(_RAISED_IN_WORKER.finditer(text))
    if not found:
        return None
    module, _, name = found[-1][0].rstrip(": \n").rpartition(".")
    kind = getattr(sys.modules.get(module or "builtins"), name, None)
    message = text[found[-1].end() :].strip()
    if isinstance(kind, type) and issubclass(kind, INPUT_ERRORS):
        return message
    return environment_problem(kind(message)) if kind in (RuntimeError, MemoryError) else None


def environment_problem(error: BaseException) -> str | None:
    """Say what the machine lacked when torch raised an error of no special kind; None for any other error."""
    text = str(error)
    if "DataLoader worker" in text and ("killed by signal" in text or "exited unexpectedly" in text):
        first = text.strip().splitlines()[0]
        return (
            f"{first} Often the memory of the machine is used up: try fewer --workers (0 for none), smaller pictures "
            "or a smaller batch; `--resume` goes on from the last checkpoint."
        )
    if "out of memory" in text.lower() and isinstance(error, (RuntimeError, MemoryError)):
        return text.strip()
    return "out of memory" if isinstance(error, MemoryError) else None
