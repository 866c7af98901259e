"""Where in a COCO file the annotations of each image are.

A file of hundreds of megabytes is walked through once, and only positions and a few numbers of each annotation are
kept; records parse their annotations from the file when they are first used. The index is cached on disk, so that
the next start reads no annotation at all. Ranks and workers read the same file through the page cache of the
system: a machine holds one copy, whatever their number.
"""

import functools
import hashlib
import json
import logging
import os
import zipfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.data._lazy_record import AnnotationSummary, LazyRecord
from detectron2.utils.atomic import atomic_write
from detectron2.utils.file_io import get_cache_dir

from ._coco_records import AnnotationReader, class_table, contiguous_ids
from ._json_stream import JsonStream

__all__ = ["CocoIndex", "CocoSource", "NotIndexable", "lazy_records", "load_index"]

logger = logging.getLogger(__name__)

_VERSION = 1
_COLUMNS = ("ids", "image_ids", "categories", "starts", "ends", "crowd", "visible", "usable")


class NotIndexable(Exception):
    """The file has something that the index does not hold (ids that are not whole numbers, unusual layout)."""


@dataclass(frozen=True)
class CocoIndex:
    """Positions and key figures of the annotations of one file, grouped by image.

    Attributes:
        image_ids: [N] in the order of the records (ascending).
        sizes: [N, 2] height and width.
        file_names: N names as in the file.
        first: [N + 1] annotations of image i are ``first[i] .. first[i + 1]``.
        starts: [M] first byte of each annotation.
        ends: [M] byte after each annotation.
        categories: [M] category ids of the file.
        crowd: [M] ``iscrowd``.
        visible: [M] keypoints with a visibility above 0.
        usable: [M] false for annotations whose polygons are all too short.
        category_table: id and name of each category.
        strays: annotations of images that the file does not list.
    """

    image_ids: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    file_names: list[str]
    first: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    categories: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.uint8]
    visible: npt.NDArray[np.int16]
    usable: npt.NDArray[np.bool_]
    category_table: list[dict[str, Any]]
    strays: int


# ------------------------------------------------------------------ building
def _visible(keypoints: Any) -> int:
    return sum(v > 0 for v in keypoints[2::3]) if keypoints else 0


def _usable(segmentation: Any) -> bool:
    if not segmentation or isinstance(segmentation, Mapping):
        return True
    return any(len(p) >= 6 and len(p) % 2 == 0 for p in segmentation)


def _read_annotations(stream: JsonStream, source: str) -> dict[str, npt.NDArray[Any]]:
    columns = {name: array("q") for name in _COLUMNS}
    add_id, add_image, add_category, add_start, add_end, add_crowd, add_visible, add_usable = (
        columns[name].append for name in _COLUMNS
    )
    try:
        for anno, start, end in stream.elements():
            if "bbox" in anno and not anno["bbox"]:
                # The reader has the words for it.
                AnnotationReader(source, None)(anno)
            add_id(anno["id"])
            add_image(anno["image_id"])
            add_category(anno["category_id"])
            add_start(start)
            add_end(end)
            add_crowd(anno.get("iscrowd", 0))
            add_visible(_visible(anno.get("keypoints")))
            add_usable(_usable(anno.get("segmentation")))
    except (KeyError, TypeError, OverflowError) as error:
        raise NotIndexable(f"annotations[{len(columns['ends'])}]: {error!r}") from error
    return {
        name: np.frombuffer(column, dtype=np.int64) if column else np.zeros(0, np.int64)
        for name, column in columns.items()
    }


def _read_images(stream: JsonStream) -> list[tuple[int, int, int, str]]:
    rows: list[tuple[int, int, int, str]] = []
    again: list[tuple[int, int, int]] = []
    for entry, start, end in stream.elements():
        try:
            row = (entry["id"], entry["height"], entry["width"], entry["file_name"])
        except (KeyError, TypeError) as error:
            raise NotIndexable(f"images[{len(rows)}]: {error!r}") from error
        if not all(type(v) is int for v in row[:3]) or not isinstance(row[3], str) or "\0" in row[3]:
            raise NotIndexable(f"images[{len(rows)}]: {row}")
        if not row[3].isascii():
            again.append((len(rows), start, end))
        rows.append(row)
    for position, start, end in again:
        rows[position] = (*rows[position][:3], stream.exact(start, end)["file_name"])
    return rows


def build_index(path: str, source: str | None = None) -> CocoIndex:
    """Walk through a COCO file.

    Args:
        path: local file.
        source: name of the file for errors.

    Raises:
        NotIndexable: the file must be read as a whole.
        ValueError: it is not JSON, or an annotation has an empty box, or ids are used twice.
    """
    source = source or path
    images: list[tuple[int, int, int, str]] | None = None
    table: dict[str, npt.NDArray[Any]] | None = None
    categories: list[dict[str, Any]] = []
    with open(path, "rb") as f:
        stream = JsonStream(f, source)
        for key in stream.keys():
            if key == "images":
                images = _read_images(stream)
            elif key == "annotations":
                table = _read_annotations(stream, source)
            else:
                _, start, end = stream.value()
                if key == "categories":
                    categories = stream.exact(start, end)
    if images is None:
        raise NotIndexable("no 'images'")
    return _assemble(
        sorted(images), table or {name: np.zeros(0, np.int64) for name in _COLUMNS}, categories, source
    )


def _assemble(
    images: list[tuple[int, int, int, str]], table: dict[str, npt.NDArray[Any]], categories: Any, source: str
) -> CocoIndex:
    numbers = np.array([row[:3] for row in images], dtype=np.int64).reshape(-1, 3)
    image_ids = np.ascontiguousarray(numbers[:, 0])
    check_unique(image_ids, "image", source)
    check_unique(table["ids"], "annotation", source)
    # Each annotation's image by position; stable, so that annotations keep the order of the file.
    where = np.searchsorted(image_ids, table["image_ids"])
    known = (
        image_ids[np.minimum(where, len(image_ids) - 1)] == table["image_ids"]
        if len(image_ids)
        else where < 0
    )
    rows = np.flatnonzero(known)
    rows = rows[np.argsort(where[rows], kind="stable")]
    counts = np.bincount(where[rows], minlength=len(image_ids))
    return CocoIndex(
        image_ids,
        np.ascontiguousarray(numbers[:, 1:]),
        [row[3] for row in images],
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        table["starts"][rows],
        table["ends"][rows],
        table["categories"][rows],
        table["crowd"][rows].astype(np.uint8),
        table["visible"][rows].astype(np.int16),
        table["usable"][rows].astype(bool),
        categories,
        int(len(known) - known.sum()),
    )


def check_unique(ids: npt.NDArray[np.int64], what: str, source: str) -> None:
    """Raise ValueError if an id is used twice.

    The old COCO file "minival" is known to repeat annotation ids, and harmless, since its annotations are whole.
    """
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice) and not (what == "annotation" and "minival" in os.path.basename(source)):
        raise ValueError(
            f"{source}: {len(twice)} {what} ids are used more than once, {twice[0]} is the first. "
            "`detectron2 data check` lists them and can write a mended copy."
        )


# ------------------------------------------------------------------ cache
def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _cache_file(path: str) -> Path:
    key = f"{_VERSION} {os.path.realpath(path)} {_stamp(path)}"
    return (
        Path(get_cache_dir())
        / "detectron2"
        / "coco_index"
        / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.npz"
    )


_ARRAYS = ("image_ids", "sizes", "first", "starts", "ends", "categories", "crowd", "visible", "usable")


def _save(index: CocoIndex, file: Path) -> None:
    texts = {"categories": index.category_table, "strays": index.strays}
    arrays = {name: getattr(index, name) for name in _ARRAYS}
    arrays["file_names"] = np.frombuffer("\0".join(index.file_names).encode(), dtype=np.uint8)
    arrays["texts"] = np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)
    try:
        with atomic_write(file, "wb") as f:
            np.savez(f, **arrays)
    except OSError as error:
        logger.debug("The index of annotations was not cached: %s", error)


def _load(file: Path) -> CocoIndex | None:
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _ARRAYS}
            names = stored["file_names"].tobytes().decode()
            texts = json.loads(stored["texts"].tobytes())
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        logger.warning("The cached index %s is damaged and is made anew: %s", file, error)
        return None
    file_names = names.split("\0") if len(arrays["image_ids"]) else []
    return CocoIndex(
        **arrays, file_names=file_names, category_table=texts["categories"], strays=texts["strays"]
    )


def load_index(path: str, source: str | None = None) -> CocoIndex:
    """The index of a file, from the cache if the file has not changed since.

    Args:
        path: local file.
        source: name of the file for errors.
    """
    file = _cache_file(path)
    index = _load(file)
    if index is None:
        index = build_index(path, source)
        _save(index, file)
    return index


# ------------------------------------------------------------------ records
@dataclass(frozen=True)
class _Token:
    """From which another process makes the same source."""

    path: str
    name: str
    mapped: bool
    extra_keys: tuple[str, ...]
    stamp: tuple[int, int]

    def open(self) -> "CocoSource":
        return _open_source(self)

    def __reduce__(self) -> Any:
        return _Token, (self.path, self.name, self.mapped, self.extra_keys, self.stamp)


@functools.lru_cache(maxsize=64)
def _open_source(token: _Token) -> "CocoSource":
    return CocoSource(token, load_index(token.path, token.name))


class CocoSource:
    """Parses annotations from their places in the file.

    Args:
        token: which file, and how to convert.
        index: of that file.
    """

    def __init__(self, token: _Token, index: CocoIndex) -> None:
        self._token = token
        self.index = index
        ids, _ = class_table(index.category_table, token.name)
        self._reader = AnnotationReader(
            token.name, contiguous_ids(ids) if token.mapped else None, token.extra_keys
        )
        # Forked workers may share the descriptor, since reads name their position.
        self._fd = os.open(token.path, os.O_RDONLY)
        status = os.fstat(self._fd)
        if (status.st_size, status.st_mtime_ns) != token.stamp:
            raise RuntimeError(f"{token.name} was changed while it is in use. Load the data set again.")
        self._classes = self._class_numbers(ids)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def _class_numbers(self, ids: Sequence[int]) -> npt.NDArray[np.int64]:
        categories = self.index.categories
        if not self._token.mapped or not len(categories):
            return categories
        known = np.asarray(ids, dtype=np.int64)
        where = np.searchsorted(known, categories).clip(max=max(len(known) - 1, 0))
        wrong = np.flatnonzero(known[where] != categories) if len(known) else np.arange(len(categories))
        if len(wrong):
            self._reader(self._parse(int(wrong[0])))  # raises, naming annotation and image
        return where

    def _parse(self, row: int) -> dict[str, Any]:
        start, end = int(self.index.starts[row]), int(self.index.ends[row])
        return json.loads(os.pread(self._fd, end - start, start))

    def annotations(self, index: int) -> list[dict[str, Any]]:
        first, last = self.index.first[index], self.index.first[index + 1]
        converted = (self._reader(self._parse(row)) for row in range(first, last) if self.index.usable[row])
        return [a for a in converted if a is not None]

    def summary(self, index: int) -> AnnotationSummary:
        first, classes, crowd, visible = self._usable_rows
        part = slice(first[index], first[index + 1])
        return AnnotationSummary(classes[part], crowd[part], visible[part])

    @functools.cached_property
    def _usable_rows(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """First row of each image, and the key figures, of usable annotations; lists, whose slices are quick."""
        usable = self.index.usable
        before = np.concatenate([[0], np.cumsum(usable)])
        rows = (self._classes[usable], self.index.crowd[usable], self.index.visible[usable])
        return before[self.index.first].tolist(), rows[0].tolist(), rows[1].tolist(), rows[2].tolist()

    def token(self) -> _Token:
        return self._token


def lazy_records(
    path: str, name: str, image_root: str, mapped: bool, extra_keys: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Records of a file, whose annotations are parsed when they are first used.

    Args:
        path: local file.
        name: the file as the user named it.
        image_root: folder of the images.
        mapped: turn category ids into class numbers.
        extra_keys: further keys of annotations to keep.
    """
    source = _open_source(_Token(os.path.abspath(path), name, mapped, extra_keys, _stamp(path)))
    index = source.index
    dropped = int((~index.usable).sum())
    if dropped:
        logger.warning(
            "%s: left out %d annotations whose polygons all have fewer than 3 points or an odd number of coordinates",
            name, dropped,
        )  # fmt: skip
    if index.strays:
        logger.warning(
            "%s: left out %d annotations of images that the file does not list", name, index.strays
        )
    records: list[dict[str, Any]] = []
    for number, (image_id, size, file_name) in enumerate(
        zip(index.image_ids.tolist(), index.sizes.tolist(), index.file_names)
    ):
        fields = {
            "file_name": os.path.join(image_root, file_name),
            "height": size[0],
            "width": size[1],
            "image_id": image_id,
        }
        records.append(LazyRecord(fields, source, number))
    return records
