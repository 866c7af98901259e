"""A list packed into one buffer that all processes of a machine share.

Processes cannot share Python objects: forked workers write to their reference counts and thereby copy page after page,
and ranks parse the same files again. Here each element is pickled once into one buffer.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, SupportsInt

import numpy as np
import numpy.typing as npt

from ..datasets.coco_json.lazy_list import LazyRecords
from ..datasets.coco_json.lazy_record import AnnotationSource, LazyRecord, revive
from .shared_memory import SharedBytes

__all__ = ["PackedList", "SharedPackedList", "pack", "unpack"]


_PLACE = struct.Struct("<BIQ")  # kind, number of the source, index in it


class _Pickler(pickle.Pickler):
    """Pickles a record whose annotations are unparsed as a reference to its file."""

    def reducer_override(self, obj: object) -> Any:
        if type(obj) is LazyRecord and obj.is_packed:
            return revive, obj.reference()
        return NotImplemented


def pack(obj: object) -> bytes:
    """Pickle one element; see :func:`unpack`."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(obj)
    return buffer.getvalue()


def unpack(data: bytes | memoryview) -> Any:
    """Invert :func:`pack`; only for buffers written by this process or its siblings."""
    return pickle.loads(data)


def _pack_all(items: Iterable[Any]) -> tuple[npt.NDArray[np.int64], bytearray, list[Any]]:
    """Return the end of each element, all elements, and the sources that elements refer to by number.

    The first byte of an element states its kind. A record that its source would make again is stored as its place in it.
    A record that is still packed stores its own fields only: repeating its source would take most of the space and time.
    """
    places = items.places() if isinstance(items, LazyRecords) else None
    if places is not None:
        return _pack_places(*places)
    data = bytearray()
    ends = [0]
    numbers: dict[Any, int] = {}
    for item in items:
        if type(item) is LazyRecord and item.is_unchanged:
            token, index = item.place()
            number = numbers.setdefault(token, len(numbers))
            data += _PLACE.pack(2, number, index)
        elif type(item) is LazyRecord and item.is_packed:
            token, index, fields = item.reference()
            number = numbers.setdefault(token, len(numbers))
            data += b"\1" + number.to_bytes(4, "little")
            data += pickle.dumps((index, fields), protocol=pickle.HIGHEST_PROTOCOL)
        else:
            data += b"\0"
            data += pack(item)
        ends.append(len(data))
    return np.asarray(ends, dtype=np.int64), data, list(numbers)


def _pack_places(
    sources: Sequence[AnnotationSource], which: npt.NDArray[np.integer], images: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], bytearray, list[Any]]:
    """Pack records that their sources would make again, without making them."""
    rows = np.empty(len(images), dtype=[("kind", "u1"), ("source", "<u4"), ("image", "<u8")])
    rows["kind"], rows["source"], rows["image"] = 2, which, images
    ends = np.arange(len(images) + 1, dtype=np.int64) * _PLACE.size
    return ends, bytearray(rows.view(np.uint8)), [source.token() for source in sources]


class PackedList(Sequence):
    """A read-only list whose elements are pickled into one array of bytes.

    Each access creates a new object. Forked workers share the array, since it has one reference count for all
    elements.

    Args:
        items: elements to store.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self._ends, data, self._tokens = _pack_all(items)
        self._data: npt.NDArray[np.uint8] = np.frombuffer(data, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: SupportsInt | slice) -> Any:
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
        if element[0] == 2:
            _, number, index = _PLACE.unpack(element)
            return self._tokens[number].open().record(index)
        record, fields = unpack(element[5:])
        return revive(self._tokens[int.from_bytes(element[1:5], "little")], record, fields)

    @property
    def nbytes(self) -> int:
        """Size of the buffer in bytes."""
        return int(self._data.nbytes + self._ends.nbytes)


class SharedPackedList(PackedList):
    """A :class:`PackedList` that all ranks and workers of a machine share; see :class:`SharedBytes`."""

    def __init__(self, items: Iterable[Any]) -> None:
        ends, data, self._tokens = _pack_all(items)
        self._use(SharedBytes((ends.tobytes(), data)), len(ends))

    def _use(self, shared: SharedBytes, count: int) -> None:
        self._shared = shared
        self._ends = shared.data[: 8 * count].view(np.int64)
        self._data = shared.data[8 * count :]

    def __reduce__(self) -> tuple[Callable[..., SharedPackedList], tuple[Any, ...]]:
        return _made_from, (self._shared, len(self._ends), self._tokens)


def _made_from(shared: SharedBytes, count: int, tokens: list[Any]) -> SharedPackedList:
    made = SharedPackedList.__new__(SharedPackedList)
    made._tokens = tokens
    made._use(shared, count)
    return made
