"""Logging: setup, and messages with a limited number of repetitions.

Imports neither torch nor any other heavy package, so that light modules can use it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from collections import Counter, defaultdict
from types import FrameType
from typing import Any

from .file_io import PathManager
from .tables import create_small_table

__all__ = [
    "close_log_file",
    "create_small_table",
    "log_every_n",
    "log_every_n_seconds",
    "log_first_n",
    "setup_logger",
]

# Short forms of logger names in lines; the longest matching name is used.
_ABBREVIATIONS = {"detectron2": "d2"}
_DATE = "%m/%d %H:%M:%S"
_MARKS = {
    logging.WARNING: ("WARNING", "33"),
    logging.ERROR: ("ERROR", "31"),
    logging.CRITICAL: ("CRITICAL", "1;31"),
}


class _LineFormatter(logging.Formatter):
    """``[date name]: message``, coloured for terminals, plain with the level for files."""

    def __init__(self, *, colored: bool, brief: bool, abbreviations: dict[str, str]) -> None:
        super().__init__(datefmt=_DATE)
        self._colored = colored
        self._brief = brief
        self._abbreviations = sorted(abbreviations.items(), key=lambda item: -len(item[0]))

    def _short(self, name: str) -> str:
        for long, short in self._abbreviations:
            if name == long or name.startswith(long + "."):
                return (short + name[len(long) :]).lstrip(".")
        return name

    def formatMessage(self, record: logging.LogRecord) -> str:
        name = self._short(record.name)
        if self._brief and name.startswith("d2."):  # the console only shows the sub-package
            name = ".".join(name.split(".")[:2])
        place = f"[{self.formatTime(record, self.datefmt)} {name}]"
        if not self._colored:
            return f"{place} {record.levelname}: {record.message}"
        mark, color = _MARKS.get(record.levelno, ("", ""))
        text = f"\033[{color}m{mark}\033[0m {record.message}" if mark else record.message
        return f"\033[32m{place}:\033[0m {text}"


class _StdoutHandler(logging.StreamHandler):
    """Writes to the current ``sys.stdout``, so that captured and redirected output works."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.addFilter(lambda record: getattr(record, "to_console", True))

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):  # the reader of our output has ended
            super().handleError(record)

    @property
    def stream(self) -> Any:
        return sys.stdout

    @stream.setter
    def stream(self, value: object) -> None:
        pass


class _FileHandler(logging.StreamHandler):
    """Appends to a file, local or remote."""

    def __init__(self, path: str) -> None:
        users = _users_of[path]
        if users:  # loggers share a file, since two handles of a remote one would overwrite each other
            stream = users[0].stream
        else:
            PathManager.mkdirs(os.path.dirname(path) or ".")
            # Local files are line-buffered, so that a killed process loses nothing; remote ones are block-buffered.
            stream = PathManager.open(path, "a", buffering=-1 if "://" in path else 1)
        super().__init__(stream)
        self.path = path
        users.append(self)
        atexit.register(self.close)

    def close(self) -> None:
        atexit.unregister(self.close)
        users = _users_of[self.path]
        if self in users:
            users.remove(self)
            if not users:
                self.stream.close()
        super().close()


_users_of: defaultdict[str, list[_FileHandler]] = defaultdict(list)


def _log_file(output: str, rank: int) -> str:
    path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    return f"{path}.rank{rank}" if rank > 0 else path


def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Send the messages of a logger to the console and to a file.

    A call with another file closes the previous one, so that two runs in one process have separate logs. Repeated calls
    with the same arguments change nothing.

    Args:
        output: a file ending in ``.txt`` or ``.log``, or a folder for ``log.txt``; ranks above 0 add ``.rank<N>``. None
            does not change the file.
        distributed_rank: rank of the process; only rank 0 writes to the console.
        color: use colours if the console is a terminal.
        name: root of the loggers to set up.
        abbrev_name: name to print instead; ``""`` prints none. None prints ``d2`` for ``detectron2``.
        enable_propagation: also pass messages to the parents of the logger.
        configure_stdout: write to the console.

    Returns:
        The logger, with level DEBUG.
    """
    logger = logging.getLogger(name)
    path = None if output is None else _log_file(output, distributed_rank)
    arguments = (distributed_rank, color, abbrev_name, enable_propagation, configure_stdout)
    if arguments in _set_up[name] and (path is None or path in _log_paths(logger)):
        return logger
    _set_up[name].add(arguments)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    abbreviations = dict(_ABBREVIATIONS)
    if abbrev_name is not None:
        abbreviations[name] = abbrev_name

    def add(handler: logging.Handler, colored: bool, brief: bool) -> None:
        handler.setLevel(logging.DEBUG)
        handler.setFormatter(_LineFormatter(colored=colored, brief=brief, abbreviations=abbreviations))
        logger.addHandler(handler)

    on_console = any(isinstance(handler, _StdoutHandler) for handler in logger.handlers)
    if configure_stdout and distributed_rank == 0 and not on_console:
        add(_StdoutHandler(), color and sys.stdout is not None and sys.stdout.isatty(), True)
    if path is not None and path not in _log_paths(logger):
        close_log_file(name)
        add(_FileHandler(path), False, False)
    return logger


_set_up: defaultdict[str, set[tuple[Any, ...]]] = defaultdict(set)


def _log_paths(logger: logging.Logger) -> list[str]:
    """Return the files that a logger writes to."""
    return [h.path for h in logger.handlers if isinstance(h, _FileHandler) and h in _users_of[h.path]]


def close_log_file(name: str = "detectron2") -> None:
    """Close the file that :func:`setup_logger` has opened for a logger, if any."""
    logger = logging.getLogger(name)
    for handler in [h for h in logger.handlers if isinstance(h, _FileHandler)]:
        logger.removeHandler(handler)
        handler.close()


_calls: Counter[tuple[Any, ...]] = Counter()
_last_times: dict[tuple[Any, ...], float] = {}


def _caller() -> tuple[str, tuple[str, int]]:
    """Return the module and the location (file, line) of the first frame outside this file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    if frame is None:
        return "detectron2", ("", 0)
    module = frame.f_globals.get("__name__", "detectron2")
    return "detectron2" if module == "__main__" else module, (frame.f_code.co_filename, frame.f_lineno)


def log_first_n(
    lvl: int, msg: str, n: int = 1, *, name: str | None = None, key: str | tuple[str, ...] = "caller"
) -> None:
    """Log a message only the first ``n`` times.

    Args:
        lvl: level, such as ``logging.WARNING``.
        msg: the text.
        n: maximum number of times to log.
        name: logger; default: that of the calling module.
        key: identifies equal messages: "caller" (the line of code), "message" (the text), or a tuple of both.

    Raises:
        ValueError: for any other key.
    """
    keys = (key,) if isinstance(key, str) else tuple(key)
    if not keys or set(keys) - {"caller", "message"}:
        raise ValueError(f"key must be 'caller', 'message' or a tuple of them, got {key!r}")
    module, place = _caller()
    identity = ("first", place if "caller" in keys else None, msg if "message" in keys else None)
    _calls[identity] += 1
    if _calls[identity] <= n:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log a message at the first of every ``n`` calls from this line of code.

    Args:
        lvl: level, such as ``logging.INFO``.
        msg: the text.
        n: number of calls per message.
        name: logger; default: that of the calling module.
    """
    module, place = _caller()
    identity = ("every", place)
    _calls[identity] += 1
    if n == 1 or _calls[identity] % n == 1:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: float = 1, *, name: str | None = None) -> None:
    """Log a message at most once in ``n`` seconds from this line of code.

    Args:
        lvl: level, such as ``logging.INFO``.
        msg: the text.
        n: seconds between messages.
        name: logger; default: that of the calling module.
    """
    module, place = _caller()
    identity = ("seconds", place)
    now = time.monotonic()
    if identity not in _last_times or now - _last_times[identity] >= n:
        logging.getLogger(name or module).log(lvl, msg)
        _last_times[identity] = now


def _log_api_usage(identifier: str) -> None:
    """Do nothing: this package does not report usage. Kept for code that calls it."""
