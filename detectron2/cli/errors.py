"""Messages of errors on the command line."""

import errno
import re
import sys

from detectron2.utils.errors import InputError, UserError

__all__ = ["INPUT_ERRORS", "UserError", "environment_problem", "problem_of", "text_of"]


INPUT_ERRORS = (InputError, ValueError, OSError, ImportError)
"""Errors raised for bad input or missing resources of the machine. All others are bugs of the package."""

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
# The last line of a traceback; not all of our errors are named …Error.
_RAISED_IN_WORKER = re.compile(
    r"^(?:detectron2(?:\.\w+)+|[A-Za-z_][\w.]*(?:Error|Exception|Interrupt))\b(?::\s*)?", re.MULTILINE
)

_RAY_WRAPS = "\n\nThe above exception was the direct cause of the following exception:\n\n\x1b[36mray::"


def text_of(error: BaseException) -> str:
    """Return the text of an error, without the traceback that torch puts into errors of loader workers."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"disk full: {error}"
    if "Traceback (most recent call last)" in text:
        # The lines of a traceback are indented, except the error at its end.
        found = list(_RAISED_IN_WORKER.finditer(text))
        return text[found[-1].end() :].strip() if found else text.strip().splitlines()[-1]
    return text


def problem_of(error: Exception) -> str | None:
    """Return the message for the user; None if the error is a bug of the package, whose traceback we need."""
    # Of torch and Ray, which are not imported for this.
    if type(error).__name__ == "ProcessRaisedException":
        return _problem_in_process(str(error))
    if type(error).__module__.partition(".")[0] == "ray":
        text = str(error)
        return _problem_in_process(text.rpartition(_RAY_WRAPS)[0] if _RAY_WRAPS in text else text)
    return text_of(error) if isinstance(error, INPUT_ERRORS) else environment_problem(error)


def _problem_in_process(text: str) -> str | None:
    """Return the message for an error of another process, given its traceback."""
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
    """Return the message for a generic error of torch that is caused by the machine; None for any other error."""
    text = str(error)
    if "DataLoader worker" in text and ("killed by signal" in text or "exited unexpectedly" in text):
        first = text.strip().splitlines()[0]
        return (
            f"{first} Often the machine has run out of memory: try fewer --workers (0 for none), smaller images or a "
            "smaller batch; `--resume` continues from the last checkpoint."
        )
    if "out of memory" in text.lower() and isinstance(error, (RuntimeError, MemoryError)):
        return text.strip()
    return "out of memory" if isinstance(error, MemoryError) else None
