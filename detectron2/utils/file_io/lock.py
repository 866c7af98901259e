"""One training at a time in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO

__all__ = ["FolderInUseError", "folder_lock"]

LOCK_FILE = ".lock"


class FolderInUseError(OSError):
    """Another process works in a folder."""


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a folder for this process, and those that it starts, within a ``with`` block.

    The lock ends with the process, however that ends. Remote folders, and file systems and operating systems without
    such locks, are not locked.

    Args:
        folder: it is made if it is missing.

    Raises:
        FolderInUseError: if another process holds it.
    """
    path = os.fspath(folder)
    if not path or "://" in path:
        yield
        return
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, LOCK_FILE), "a+", encoding="utf-8") as file:
        if _locked(file):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        else:
            _check_holder(file, path)
        yield


def _locked(file: IO[str]) -> bool:
    """Return whether the lock is ours now; true also where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _check_holder(file: IO[str], path: str) -> None:
    """Raise an error unless this process, or the one that started it, holds the lock."""
    file.seek(0)
    holder = file.read(20).strip()
    if holder in (str(os.getpid()), str(os.getppid())):
        return
    raise FolderInUseError(
        f"the folder {path} is in use: another training{f' (process {holder})' if holder else ''} is still running "
        "there; wait for its end, or name another folder"
    )
