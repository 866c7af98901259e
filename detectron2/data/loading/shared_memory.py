"""Bytes that all ranks and workers of a machine share.

The bytes are in a file in shared memory (``/dev/shm``, else the temporary folder) whose name is a hash of its content,
so that ranks that create the same bytes at the same time find the same file without communication. Users hold a shared
lock; the last one removes the file, and the next run removes files that a killed run left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.util import Finalize
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["SharedBytes"]

SHARE_FROM_BYTES = 4 << 20
_PREFIX = "detectron2-data-"
_ATTEMPTS = 5  # another process may remove its file just after it was found


class SharedBytes:
    """Read-only bytes, in shared memory if they are large.

    Less than 4 MiB, and any size on systems without file locks, stay in a private buffer. Pickling (to a worker
    started with ``spawn``) passes the name of the file, not its content.

    Args:
        parts: buffers to concatenate.

    Attributes:
        data: all bytes, uint8 [N]; valid as long as it is referenced. The file is removed with this object.
        path: of the file; None for a private buffer.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self.path: str | None = None
        if sum(map(_size, parts)) >= SHARE_FROM_BYTES and _can_lock():
            with contextlib.suppress(OSError):
                self._attach(*_publish(parts))
                return
        self.data: npt.NDArray[np.uint8] = np.frombuffer(b"".join(parts), dtype=np.uint8)

    def _attach(self, handle: IO[bytes], path: str) -> None:
        self.path, self._handle = path, handle
        self.data = np.memmap(handle, dtype=np.uint8, mode="r")
        # multiprocessing's Finalize also runs when a forked rank exits, and not in workers that inherit the handle.
        self._finalizer = Finalize(self, _release, (handle, path), exitpriority=0)

    def __reduce__(self) -> tuple[Callable[..., SharedBytes], tuple[object]]:
        return (_private, (np.asarray(self.data),)) if self.path is None else (_attached, (self.path,))


def _private(data: npt.NDArray[np.uint8]) -> SharedBytes:
    made = SharedBytes.__new__(SharedBytes)
    made.path, made.data = None, data
    return made


def _attached(path: str) -> SharedBytes:
    made = SharedBytes.__new__(SharedBytes)
    handle = open(path, "rb")
    _lock(handle, shared=True)
    made._attach(handle, path)
    return made


# ------------------------------------------------------------------ files and locks
def _size(part: bytes | bytearray) -> int:
    return memoryview(part).nbytes


def _can_lock() -> bool:
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return False
    return True


def _lock(handle: IO[bytes], *, shared: bool) -> bool:
    """Lock a file, and return whether that succeeded; an exclusive lock does not wait for others."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _folders(nbytes: int) -> Iterator[Path]:
    """Yield the folders with enough room, shared memory first (containers often have only 64 MiB of it)."""
    for folder in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        if folder.is_dir() and os.access(folder, os.W_OK):
            room = os.statvfs(folder)
            if room.f_bavail * room.f_frsize > 1.2 * nbytes:
                yield folder


def _publish(parts: Sequence[Any]) -> tuple[IO[bytes], str]:
    """Write the bytes to a file named by their hash, or find a sibling's file; return locked handle and path."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    name = f"{_PREFIX}{os.getuid()}-{digest.hexdigest()}"
    nbytes = sum(map(_size, parts))
    for folder in _folders(nbytes):
        _sweep(folder, keep=name)
        path = folder / name
        for _ in range(_ATTEMPTS):
            handle = _found(path) or _written(path, parts)
            if handle is not None:
                return handle, str(path)
    raise OSError(f"no folder has room for {nbytes} bytes of shared annotations")


def _found(path: Path) -> IO[bytes] | None:
    """Return a locked handle on the file of a sibling; None if there is no such file (any more)."""
    try:
        handle = open(path, "rb")
    except OSError:
        return None
    if _lock(handle, shared=True) and _same_file(handle, path):
        return handle
    handle.close()
    return None


def _same_file(handle: IO[bytes], path: Path) -> bool:
    """Return whether the path is still the open file: its last user may have removed it before it was locked."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
    except OSError:
        return False


def _written(path: Path, parts: Sequence[Any]) -> IO[bytes] | None:
    """Write a file and return a locked handle; None if writing failed or a sibling was faster."""
    try:
        descriptor, part = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
    except OSError:
        return None
    handle = os.fdopen(descriptor, "w+b")
    try:
        _lock(handle, shared=True)  # keeps _sweep of other processes from removing it
        handle.writelines(parts)
        handle.flush()
        os.link(part, path)  # a rename would replace the file that siblings hold
    except OSError:
        handle.close()
        return None
    finally:
        Path(part).unlink(missing_ok=True)
    return handle


def _sweep(folder: Path, keep: str) -> None:
    """Remove files of this user that no living process holds."""
    for path in folder.glob(f"{_PREFIX}{os.getuid()}-*"):
        if path.name == keep:
            continue
        with contextlib.suppress(OSError), open(path, "rb") as handle:
            if _lock(handle, shared=False):
                path.unlink(missing_ok=True)


def _release(handle: IO[bytes], path: str) -> None:
    import fcntl

    with contextlib.suppress(OSError):
        # Closing alone would keep the lock, since the mapping has a copy of the descriptor.
        fcntl.flock(handle, fcntl.LOCK_UN)
        handle.close()
        with open(path, "rb") as again:
            if _lock(again, shared=False):
                os.unlink(path)
