"""Append-only files of records, in which evaluators save the results of each image.

A record consists of dicts, lists, JSON values, arrays, tensors, bytes, detections and instances. It is written as one
frame: length, checksum, a JSON text, and the raw bytes of the arrays in it. Reading executes no code. A truncated frame
(the process was killed, or the disk was full) is detected, and everything from it on is dropped.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from detectron2.structures import Boxes, Instances, RotatedBoxes

from ..coco.detections import ImageDetections

__all__ = ["RecordList", "RecordWriter", "decode", "encode", "read_records"]

_FRAME = struct.Struct("<II")  # bytes that follow, their CRC-32
_TEXT = struct.Struct("<I")  # bytes of the JSON text
_IN_MEMORY = 16 << 20  # largest size in bytes of a RecordList in memory
_BOXES = {"boxes": Boxes, "rotated_boxes": RotatedBoxes}


# ------------------------------------------------------------------ one record


def encode(record: Any) -> bytes:
    """Encode a record as bytes.

    Raises:
        TypeError: for unsupported types.
    """
    blobs: list[Any] = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                raise TypeError("arrays in records must be of numbers, got an array of objects")
            blobs.append(np.ascontiguousarray(value).data if value.size else b"")
            return {"@array": [value.dtype.str, list(value.shape)]}
        if isinstance(value, bytes):
            blobs.append(value)
            return {"@bytes": len(value)}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, torch.Tensor):
            return {"@tensor": plain(value.detach().cpu().numpy())}
        if isinstance(value, ImageDetections):
            return {"@detections": _detections_as_dict(value)}
        if isinstance(value, Instances):
            return {"@instances": [list(value.image_size), value.get_fields()]}
        for name, kind in _BOXES.items():
            if type(value) is kind:
                return {f"@{name}": value.tensor}
        raise TypeError(
            f"records must consist of JSON values, arrays, tensors, boxes and Instances, got {type(value).__name__}"
        )

    text = json.dumps(record, default=plain, separators=(",", ":")).encode()
    return b"".join([_TEXT.pack(len(text)), text, *blobs])


def decode(data: bytes) -> Any:
    """Decode a record of :func:`encode`; tuples become lists, and arrays are views of ``data``."""
    (length,) = _TEXT.unpack_from(data)
    at = _TEXT.size + length

    def rich(value: dict[str, Any]) -> Any:
        nonlocal at
        if len(value) != 1:
            return value
        ((tag, content),) = value.items()
        if tag == "@array":
            dtype, shape = np.dtype(content[0]), content[1]
            count = math.prod(shape)
            array = np.frombuffer(data, dtype, count, at).reshape(shape) if count else np.zeros(shape, dtype)
            at += array.nbytes
            return array
        if tag == "@bytes":
            at += content
            return data[at - content : at]
        if tag == "@tensor":
            return torch.from_numpy(content.copy())
        if tag == "@detections":
            return _detections_of_dict(content)
        if tag == "@instances":
            return Instances(tuple(content[0]), **content[1])
        kind = _BOXES.get(tag.removeprefix("@"))
        return value if kind is None else kind(content)

    # The parser completes objects in the order in which they, and their blobs, were written.
    return json.loads(data[_TEXT.size : _TEXT.size + length], object_hook=rich)


def _detections_as_dict(found: ImageDetections) -> dict[str, Any]:
    content = {f.name: getattr(found, f.name) for f in fields(found)}
    if found.rles is not None:
        content["rles"] = [np.array([len(r) for r in found.rles], dtype=np.int32), b"".join(found.rles)]
    return content


def _detections_of_dict(content: dict[str, Any]) -> ImageDetections:
    if content["rles"] is not None:
        lengths, text = content["rles"]
        ends = np.cumsum(lengths).tolist()
        content["rles"] = [text[a:b] for a, b in zip([0, *ends], ends)]
    return ImageDetections(**{**content, "size": tuple(content["size"])})


# ------------------------------------------------------------------ files of records


class RecordWriter:
    """Appends records to a file.

    Args:
        path: path of the file.
        keep: number of bytes of an existing file to keep; the rest is truncated.
    """

    def __init__(self, path: str, keep: int = 0) -> None:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._file = open(path, "ab", buffering=0)
        self._file.truncate(keep)

    def append(self, record: Any) -> None:
        """Write one record, without buffering, so that it survives the end of this process."""
        data = encode(record)
        self._file.write(_FRAME.pack(len(data), zlib.crc32(data)) + data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_records(path: str) -> Iterator[tuple[Any, int]]:
    """Yield the complete records of a file and the positions where they end; nothing if there is no file."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        while (data := _read_frame(file)) is not None:
            yield decode(data), file.tell()


def _read_frame(file: BinaryIO) -> bytes | None:
    """Return the next frame; None at the end, or if the frame is truncated or damaged."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    length, checksum = _FRAME.unpack(head)
    data = file.read(length)
    return data if len(data) == length and zlib.crc32(data) == checksum else None


class RecordList(Sequence[Any]):
    """A list of records in memory or, if it is large, pickled in a temporary file.

    The file is this process's own and has no name, so nobody else can write to it. Records must not be changed.
    """

    def __init__(self) -> None:
        self._file = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))
        weakref.finalize(self, self._file.close)
        self._ends = [0]
        self._held: list[object] = []  # all records, until one is pickled
        self._room = _IN_MEMORY

    def _size_of(self, record: Mapping[str, Any]) -> int | None:
        """Return the bytes of a record that nobody else can change; None to pickle it at once, as a copy."""
        return None

    def append(self, record: Any) -> None:
        """Append one record."""
        size = self._size_of(record)
        self._room = -1 if size is None else self._room - size
        self._held.append(record)
        if self._room < 0:
            for held in self._held:
                self._write(held)
            self._held = []

    def _write(self, record: object) -> None:
        data = pickle.dumps(record, pickle.HIGHEST_PROTOCOL)
        self._file.seek(self._ends[-1])
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def extend(self, records: Iterable[Any]) -> None:
        """Append several records."""
        for record in records:
            self.append(record)

    def __len__(self) -> int:
        return len(self._held) or len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self._read(i) for i in numbers]
        return self._read(numbers)

    def __iter__(self) -> Iterator[Any]:
        for i in range(len(self)):
            yield self._read(i)

    def _read(self, number: int) -> Any:
        if self._held:
            return self._held[number]
        start, end = self._ends[number : number + 2]
        self._file.seek(start)
        return pickle.loads(self._file.read(end - start))
