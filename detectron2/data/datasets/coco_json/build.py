"""Build the index of a COCO file: read it in pieces, several at a time, and put the columns of the pieces together."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from detectron2.utils.memory import paused_garbage_collector

from .columns import (
    Columns,
    NotIndexable,
    annotation_columns,
    image_columns,
    parsed_annotations,
    parsed_images,
)
from .json_stream import JsonStream
from .objects import Ints, JsonObjects

__all__ = ["build_arrays"]

_PIECE = 1 << 20  # bytes; what NumPy makes of it fits into the processor's cache
_THREADS = 4
_BLOCK = 1 << 20  # rows that are looked up at a time, to save memory

Arrays = dict[str, npt.NDArray[Any]]
_Found = tuple[JsonObjects, Columns, Ints]
_Read = tuple[Callable[[JsonObjects], tuple[Columns, Ints]], Callable[[Sequence[Any], str], Columns]]

_IMAGES: _Read = (image_columns, parsed_images)
_ANNOTATIONS: _Read = (annotation_columns, parsed_annotations)


@paused_garbage_collector()
def build_arrays(path: str, source: str | None = None) -> tuple[Arrays, dict[str, Any]]:
    """Index a COCO file.

    Args:
        path: local file.
        source: name of the file for errors.

    Returns:
        The arrays of the index, and its other values.

    Raises:
        NotIndexable: the file must be read as a whole.
        ValueError: it is not JSON, an annotation has an empty box, or an id is used twice.
    """
    source = source or path
    images, annotations = None, None
    categories: list[dict[str, Any]] = []
    with open(path, "rb") as f, _utf8_only():
        start = f.peek(2)[:2]
        if b"\0" in start or start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise NotIndexable("it is UTF-16")
        stream = JsonStream(f, source)
        for key in stream.keys():
            if key == "images":
                images = _read(stream, f, _IMAGES, source)
            elif key == "annotations":
                annotations = _read(stream, f, _ANNOTATIONS, source)
            else:
                value = stream.value()[0]
                if key == "categories":
                    categories = value
    if images is None:
        raise NotIndexable("no 'images'")
    if annotations is None:
        annotations = _joined([_placed(parsed_annotations([], source), [], [])])
    return _assemble(images, annotations, categories, source)


@contextlib.contextmanager
def _utf8_only() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise NotIndexable(f"it is not UTF-8: {error}") from error


# ------------------------------------------------------------------ reading
def _read(stream: JsonStream, file: IO[bytes], read: _Read, source: str) -> Columns:
    """Read an array, and leave the stream after it."""
    many, parsed = read
    position, closed = stream.position, False
    parts = []
    with contextlib.closing(_pieces(file, stream.first_object(), many)) as pieces:
        for start, found in pieces:
            if found is None or closed:
                break
            objects, columns, rows = found
            try:
                for name, column in parsed(objects.parsed(rows), source).items():
                    columns[name][rows] = column
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{source} is not a complete JSON file: {error}, after byte {start}"
                ) from error
            parts.append(_placed(columns, start + objects.starts, start + objects.ends))
            position, closed = start + (objects.close or len(objects.piece)), objects.close is not None
    stream.go_to(position)
    if not closed:  # what is not laid out evenly is parsed
        for values, starts, ends in stream.chunks(inside=bool(parts)):
            parts.append(_placed(parsed(values, source), starts, ends))
    return _joined(parts or [_placed(parsed([], source), [], [])])


def _pieces(
    file: IO[bytes], first: int | None, many: Callable[[JsonObjects], tuple[Columns, Ints]]
) -> Generator[tuple[int, _Found | None]]:
    """Yield the position of each piece from an object on, and what NumPy finds in it; None if that is not certain."""
    if first is None:
        return

    def work(text: bytes) -> _Found | None:
        objects = JsonObjects.find(text)
        if objects is None:
            return None
        if not text.isascii():
            text[: objects.ends[-1]].decode("utf-8", "surrogatepass")  # so that records can be parsed later
        return objects, *many(objects)

    threads = min(_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    waiting: deque[tuple[int, Future[_Found | None]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for text, start in _cut(file, first):
                waiting.append((start, pool.submit(work, text)))
                if len(waiting) > threads:
                    start, future = waiting.popleft()
                    yield start, future.result()
            while waiting:
                start, future = waiting.popleft()
                yield start, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


_BEFORE = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\Z")


def _cut(file: IO[bytes], position: int) -> Iterator[tuple[bytes, int]]:
    """Yield pieces of a file with their positions, cut where an object of an array seems to begin."""
    file.seek(position)
    rest = b""
    while block := file.read(max(_PIECE, len(rest))):
        rest += block
        at = rest.rfind(b"{")
        while at > 0:
            before = _BEFORE.search(rest, max(0, at - 64), at)
            if before is not None:
                yield rest[: before.start() + 1], position
                rest, position = rest[at:], position + at
                break
            at = rest.rfind(b"{", 0, at)
    if rest:
        yield rest, position


def _placed(columns: Columns, starts: npt.ArrayLike, ends: npt.ArrayLike) -> Columns:
    first = np.asarray(starts, dtype=np.int64)
    lengths = np.asarray(ends, dtype=np.int64) - first
    return {name: _small(column) for name, column in columns.items()} | {
        "starts": _small(first),
        "lengths": _small(lengths),
    }


def _small(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return integers in the smallest type that holds them."""
    if column.dtype.kind not in "iu" or not len(column):
        return column
    kind = np.promote_types(np.min_scalar_type(int(column.min())), np.min_scalar_type(int(column.max())))
    return column.astype(kind)


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}


# ------------------------------------------------------------------ putting together
def _assemble(
    images: Columns, table: Columns, categories: list[dict[str, Any]], source: str
) -> tuple[Arrays, dict[str, Any]]:
    order = np.argsort(images["ids"], kind="stable")
    image_ids = images["ids"][order]
    if (image_ids[1:] == image_ids[:-1]).any():
        raise NotIndexable("images that are listed twice")
    names, name_ends = _names(images.pop("names")[order])
    _check_unique(table.pop("ids"), source)
    where, known = _places(image_ids, table.pop("image_ids"))
    # Sort annotations by image; stable, so that those of an image keep the order of the file.
    rows = np.argsort(where, kind="stable")
    if not known.all():
        rows = rows[known[rows]]
    counts = np.bincount(where[known], minlength=len(image_ids))
    del where
    category_ids = np.unique(table["categories"]).astype(np.int64)
    table["categories"] = _small(_places(category_ids, table["categories"])[0])
    arrays: Arrays = {
        "image_ids": image_ids,
        "sizes": np.stack([images["heights"][order], images["widths"][order]], axis=1),
        "names": names,
        "name_ends": name_ends,
        "first": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "category_ids": category_ids,
    }
    for name in ("categories", "starts", "lengths", "crowd", "visible"):
        arrays[name] = table.pop(name)[rows]
    arrays["usable"] = table.pop("usable")[rows].astype(np.bool_)
    return arrays, {"category_table": categories, "strays": int(len(known) - np.count_nonzero(known))}


def _places(
    ids: npt.NDArray[np.integer], wanted: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """Return the position of each wanted id among the ids, which are in order, and whether it is there."""
    where = np.zeros(len(wanted), dtype=np.uint32)
    if not len(ids):
        return where, where > 0
    lowest, highest = int(ids[0]), int(ids[-1])
    dense = highest - lowest < 4 * len(ids) + 1000
    if dense:  # a table is faster than a search
        table = np.zeros(highest - lowest + 1, dtype=np.uint32)
        table[ids.astype(np.int64) - lowest] = np.arange(len(ids))
    for at in range(0, len(wanted), _BLOCK):
        block = wanted[at : at + _BLOCK].astype(np.int64)
        if dense:
            where[at : at + _BLOCK] = table[block.clip(lowest, highest) - lowest]
        else:
            where[at : at + _BLOCK] = np.searchsorted(ids, block).clip(max=len(ids) - 1)
    return where, ids[where] == wanted


def _names(names: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the names, each with a zero byte after it, and the positions of these."""
    text = b"".join([b"\0".join(names.tolist()), b"\0" * min(len(names), 1)])
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise NotIndexable(f"a file name is not UTF-8: {error}") from error
    found = np.frombuffer(text, dtype=np.uint8)
    ends = np.flatnonzero(found == 0)
    if len(ends) != len(names):
        raise NotIndexable("a file name has a zero byte")
    return found, ends


def _check_unique(ids: npt.NDArray[Any], source: str) -> None:
    """Raise ValueError if an annotation id is used twice, which is harmless in COCO's old "minival" file."""
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice) and "minival" not in os.path.basename(source):
        raise ValueError(
            f"{source}: {len(twice)} annotation ids are used more than once, {twice[0]} is the first. "
            "`detectron2 data check` lists them and can write a corrected copy."
        )
