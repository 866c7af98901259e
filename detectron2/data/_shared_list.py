"""A list packed into one buffer that all processes of a machine can map instead of copying.

Python objects cannot be shared between processes: forked workers write to their reference counts and so copy page
after page, ranks parse the same files again. Here each element is pickled once into one buffer. A large buffer
lives in a file in shared memory (``/dev/shm``, else the temporary folder) that is named after its content, so that
ranks and workers find the same file without talking to each other. Users hold a shared lock; the last one removes
the file, and files that a killed run left behind are removed by the next one.
"""

import contextlib
import hashlib
import io
import os
import pickle
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ._lazy_record import LazyRecord, revive

__all__ = ["PackedList", "SharedPackedList", "pack", "unpack"]

SHARE_FROM_BYTES = 4 << 20
_PREFIX = "detectron2-data-"


class _Pickler(pickle.Pickler):
    """Stores a record whose annotations are still in their file as a reference to that file."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is LazyRecord and obj.is_packed:
            return revive, obj.reference()
        return NotImplemented


def pack(obj: Any) -> bytes:
    """Pickle one element; see :func:`unpack`."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(obj)
    return buffer.getvalue()


def unpack(data: Any) -> Any:
    """The inverse of :func:`pack`; only for buffers that this process or its siblings made."""
    return pickle.loads(data)


def _pack_all(items: Iterable[Any]) -> tuple[npt.NDArray[np.int64], bytearray, list[Any]]:
    """End of each element, all elements, and the sources that elements refer to by number.

    The first byte of an element says which kind it is. A record that is still packed keeps its own fields only:
    pickled on its own, each would name its source again, which is most of its size and of the time.
    """
    data = bytearray()
    ends = [0]
    numbers: dict[Any, int] = {}
    for item in items:
        if type(item) is LazyRecord and item.is_packed:
            token, index, fields = item.reference()
            number = numbers.setdefault(token, len(numbers))
            data += b"\1" + number.to_bytes(4, "little")
            data += pickle.dumps((index, fields), protocol=pickle.HIGHEST_PROTOCOL)
        else:
            data += b"\0"
            data += pack(item)
        ends.append(len(data))
    return np.asarray(ends, dtype=np.int64), data, list(numbers)


class PackedList(Sequence):
    """A read-only list whose elements are pickled into one array of bytes.

    Each access makes a new object. Forked workers share the array, since it has one reference count for all
    elements.

    Args:
        items: what to store.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self._ends, data, self._tokens = _pack_all(items)
        self._data: npt.NDArray[np.uint8] = np.frombuffer(data, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = int(index)
        if i < 0:
            i += len(self)
        if not 0 <= i < len(self):
            raise IndexError(f"index {index} of a list with {len(self)} elements")
        element = self._data[self._ends[i] : self._ends[i + 1]].data
        if element[0] == 0:
            return unpack(element[1:])
        record, fields = unpack(element[5:])
        return revive(self._tokens[int.from_bytes(element[1:5], "little")], record, fields)

    @property
    def nbytes(self) -> int:
        """Size of the buffer in bytes."""
        return int(self._data.nbytes + self._ends.nbytes)


class SharedPackedList(PackedList):
    """A :class:`PackedList` of which each machine has one copy, whatever the number of ranks and workers.

    Small lists (below 4 MiB) and systems without file locks keep a private buffer. Pickling (to a worker started
    with ``spawn``) hands over the name of the file, not its content.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        ends, data, self._tokens = _pack_all(items)
        self._path: str | None = None
        self._ends = ends
        if len(data) >= SHARE_FROM_BYTES and _can_lock():
            with contextlib.suppress(OSError):
                self._attach(_publish(ends, data), len(ends))
                return
        self._data = np.frombuffer(data, dtype=np.uint8)

    def _attach(self, path: str, count: int) -> None:
        handle = open(path, "rb")
        _lock(handle, shared=True)
        whole = np.memmap(handle, dtype=np.uint8, mode="r")
        self._path, self._handle = path, handle
        self._ends = whole[: 8 * count].view(np.int64)
        self._data = whole[8 * count :]
        # Forked workers inherit the handle and must not clean up for their parent.
        self._finalizer = weakref.finalize(self, _release, handle, path, os.getpid())

    def __reduce__(self) -> Any:
        if self._path is None:
            return _private_list, (np.asarray(self._ends), np.asarray(self._data), self._tokens)
        return _attached_list, (self._path, len(self._ends), self._tokens)


def _private_list(ends: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], tokens: list[Any]) -> PackedList:
    made = PackedList.__new__(PackedList)
    made._ends, made._data, made._tokens = ends, data, tokens
    return made


def _attached_list(path: str, count: int, tokens: list[Any]) -> SharedPackedList:
    made = SharedPackedList.__new__(SharedPackedList)
    made._tokens = tokens
    made._attach(path, count)
    return made


# ------------------------------------------------------------------ files and locks
def _can_lock() -> bool:
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return False
    return True


def _lock(handle: IO[bytes], *, shared: bool) -> bool:
    """Take a lock; an exclusive one only when nobody else has any. Returns whether it was got."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _folders(nbytes: int) -> Iterator[Path]:
    """Folders that can hold the buffer, memory first (containers often have only 64 MiB of it)."""
    for folder in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        if folder.is_dir() and os.access(folder, os.W_OK):
            room = os.statvfs(folder)
            if room.f_bavail * room.f_frsize > 1.2 * nbytes:
                yield folder


def _publish(ends: npt.NDArray[np.int64], data: bytearray) -> str:
    """Write the buffer to a file named after its content, or find the one that a sibling wrote."""
    digest = hashlib.blake2b(data, digest_size=16)
    digest.update(ends.tobytes())
    name = f"{_PREFIX}{os.getuid()}-{digest.hexdigest()}"
    for folder in _folders(len(data) + ends.nbytes):
        _sweep(folder, keep=name)
        path = folder / name
        if path.exists():
            return str(path)
        part = folder / f"{name}.{os.getpid()}.part"
        try:
            with open(part, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
                f.write(ends.tobytes())
                f.write(data)
            os.replace(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            continue
        return str(path)
    raise OSError(f"no folder has room for {len(data)} bytes of shared annotations")


def _sweep(folder: Path, keep: str) -> None:
    """Remove files of this user that no living process holds."""
    for path in folder.glob(f"{_PREFIX}{os.getuid()}-*"):
        if path.name == keep:
            continue
        with contextlib.suppress(OSError), open(path, "rb") as handle:
            if _lock(handle, shared=False):
                path.unlink(missing_ok=True)


def _release(handle: IO[bytes], path: str, owner: int) -> None:
    if os.getpid() != owner:
        return
    import fcntl

    with contextlib.suppress(OSError):
        # Closing alone would leave the lock with the mapping, which holds a copy of the descriptor.
        fcntl.flock(handle, fcntl.LOCK_UN)
        handle.close()
        with open(path, "rb") as again:
            if _lock(again, shared=False):
                os.unlink(path)
