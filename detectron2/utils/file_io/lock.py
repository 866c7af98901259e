"""Lock folders and files, so that only one training at a time uses a folder, and one process makes a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO

__all__ = ["FolderInUseError", "folder_lock", "made_once"]

LOCK_FILE = ".lock"


class FolderInUseError(OSError):
    """Another process uses a folder."""


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Lock a folder for this process and its child processes within the block.

    The lock always ends with the process. Remote folders, and those on systems without such locks, are not locked.

    Args:
        folder: created if missing.

    Raises:
        FolderInUseError: if another process holds the lock.
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
    """Try to take the lock, and return whether it succeeded; true also without support for locks."""
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
    """Raise an error unless this process or its parent holds the lock."""
    file.seek(0)
    holder = file.read(20).strip()
    if holder in (str(os.getpid()), str(os.getppid())):
        return
    raise FolderInUseError(
        f"the folder {path} is in use: another training{f' (process {holder})' if holder else ''} is still running "
        "there; wait until it ends, or use another folder"
    )


@contextlib.contextmanager
def made_once(path: str) -> Iterator[None]:
    """Let one process at a time make a file; others wait, and find it then.

    Args:
        path: of the file; its folder is created if missing.
    """
    if os.path.isfile(path):
        yield
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: two processes may make the same file
        yield
        return
    with open(path + ".lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.remove(path + ".lock")
