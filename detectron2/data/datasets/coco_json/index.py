"""Index the annotations of a COCO file by their byte positions.

A large file is scanned once; the index keeps only the position and a few numbers of each annotation, and records
parse their annotations from the file on first use. The index is cached on disk, so that the next start reads no
annotation at all. Ranks and workers share the file through the system's page cache and the index through shared
memory: one copy per machine.
"""

import functools
import hashlib
import json
import logging
import os
import zipfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.utils.file_io import get_cache_dir
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.memory import paused_garbage_collector

from ...loading.shared_memory import SharedBytes, share_arrays
from .json_stream import JsonStream
from .records import AnnotationReader

__all__ = ["CocoIndex", "NotIndexable", "file_stamp", "load_index"]

logger = logging.getLogger(__name__)

_VERSION = 2
_COLUMNS = ("ids", "image_ids", "categories", "starts", "ends", "crowd", "visible", "usable")


class NotIndexable(Exception):
    """The file has something that the index cannot hold, such as ids that are not integers."""


@dataclass(frozen=True)
class CocoIndex:
    """Positions and a few numbers of the annotations of one file, grouped by image.

    Attributes:
        image_ids: [N] in the order of the records (ascending).
        sizes: [N, 2] height and width.
        names: the N file names in UTF-8, separated by zero bytes.
        first: [N + 1] annotations of image i are ``first[i] .. first[i + 1]``.
        starts: [M] first byte of each annotation.
        ends: [M] byte after each annotation.
        categories: [M] category ids of the file.
        crowd: [M] ``iscrowd``.
        visible: [M] number of keypoints with a visibility above 0.
        usable: [M] false for annotations whose polygons all have fewer than 3 points.
        category_table: id and name of each category.
        strays: number of annotations of images that the file does not list.
        shared: owner of the arrays' memory.
    """

    image_ids: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    names: npt.NDArray[np.uint8]
    first: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    categories: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.uint8]
    visible: npt.NDArray[np.int16]
    usable: npt.NDArray[np.bool_]
    category_table: list[dict[str, Any]]
    strays: int
    shared: SharedBytes | None = None

    @property
    def file_names(self) -> list[str]:
        """The N file names."""
        return self.names.tobytes().decode().split("\0") if len(self.image_ids) else []

    @functools.cached_property
    def _name_ends(self) -> npt.NDArray[np.int64]:
        return np.append(np.flatnonzero(self.names == 0), len(self.names))

    def file_name(self, image: int) -> str:
        """Return one of the file names."""
        first = int(self._name_ends[image - 1]) + 1 if image else 0
        return self.names[first : int(self._name_ends[image])].tobytes().decode()


# ------------------------------------------------------------------ building
def _visible(keypoints: Sequence[float] | None) -> int:
    return sum(v > 0 for v in keypoints[2::3]) if keypoints else 0


def _usable(segmentation: Sequence | Mapping | None) -> bool:
    if not segmentation or isinstance(segmentation, Mapping):
        return True
    return any(len(p) >= 6 and len(p) % 2 == 0 for p in segmentation)


def _read_annotations(stream: JsonStream, source: str) -> dict[str, npt.NDArray[Any]]:
    columns = {name: array("q") for name in _COLUMNS}
    try:
        for annotations, starts, ends in stream.chunks():
            for anno in annotations:
                if "bbox" in anno and not anno["bbox"]:
                    AnnotationReader(source, None)(anno)  # raises
            columns["ids"].extend([a["id"] for a in annotations])
            columns["image_ids"].extend([a["image_id"] for a in annotations])
            columns["categories"].extend([a["category_id"] for a in annotations])
            columns["starts"].extend(starts)
            columns["ends"].extend(ends)
            columns["crowd"].extend([a.get("iscrowd", 0) for a in annotations])
            columns["visible"].extend([_visible(a.get("keypoints")) for a in annotations])
            columns["usable"].extend([_usable(a.get("segmentation")) for a in annotations])
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise NotIndexable(f"annotations[{len(columns['ends'])}…]: {error!r}") from error
    return {
        name: np.frombuffer(column, dtype=np.int64) if column else np.zeros(0, np.int64)
        for name, column in columns.items()
    }


def _read_images(stream: JsonStream) -> list[tuple[int, int, int, str]]:
    rows: list[tuple[int, int, int, str]] = []
    again: list[tuple[int, int, int]] = []
    entries = (entry for chunk in stream.chunks() for entry in zip(*chunk))
    for entry, start, end in entries:
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


@paused_garbage_collector()
def build_index(path: str, source: str | None = None) -> CocoIndex:
    """Index a COCO file.

    Args:
        path: local file.
        source: name of the file for errors.

    Raises:
        NotIndexable: the file must be read as a whole.
        ValueError: it is not JSON, an annotation has an empty box, or an id is used twice.
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
    images: list[tuple[int, int, int, str]],
    table: dict[str, npt.NDArray[Any]],
    categories: list[dict[str, Any]],
    source: str,
) -> CocoIndex:
    numbers = np.array([row[:3] for row in images], dtype=np.int64).reshape(-1, 3)
    image_ids = np.ascontiguousarray(numbers[:, 0])
    if len(np.unique(image_ids)) < len(image_ids):
        raise NotIndexable("images that are listed twice")
    _check_unique(table["ids"], source)
    # Sort annotations by image; stable, so that those of an image keep the order of the file.
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
        np.frombuffer("\0".join(row[3] for row in images).encode(), dtype=np.uint8),
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


def _check_unique(ids: npt.NDArray[np.int64], source: str) -> None:
    """Raise ValueError if an annotation id is used twice, which is harmless in COCO's old "minival" file."""
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice) and "minival" not in os.path.basename(source):
        raise ValueError(
            f"{source}: {len(twice)} annotation ids are used more than once, {twice[0]} is the first. "
            "`detectron2 data check` lists them and can write a corrected copy."
        )


# ------------------------------------------------------------------ cache
def file_stamp(path: str) -> tuple[int, int]:
    """Return size and modification time of a file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _cache_file(path: str) -> Path:
    key = f"{_VERSION} {os.path.realpath(path)} {file_stamp(path)}"
    return (
        Path(get_cache_dir())
        / "detectron2"
        / "coco_index"
        / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.npz"
    )


_ARRAYS = (
    "image_ids",
    "sizes",
    "names",
    "first",
    "starts",
    "ends",
    "categories",
    "crowd",
    "visible",
    "usable",
)


def _save(index: CocoIndex, file: Path) -> None:
    texts = {"categories": index.category_table, "strays": index.strays}
    arrays = {name: getattr(index, name) for name in _ARRAYS}
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
            texts = json.loads(stored["texts"].tobytes())
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        logger.warning("The cached index %s is damaged and will be rebuilt: %s", file, error)
        return None
    return CocoIndex(**arrays, category_table=texts["categories"], strays=texts["strays"])


def load_index(path: str, source: str | None = None) -> CocoIndex:
    """Return the index of a file, from the cache if the file has not changed since.

    Args:
        path: local file.
        source: name of the file for errors.
    """
    return _load_index(path, source, _cache_file(path))


@functools.lru_cache(maxsize=4)
def _load_index(path: str, source: str | None, file: Path) -> CocoIndex:
    """Load the index; the name of the cache file changes with the indexed file."""
    index = _load(file)
    if index is None:
        index = build_index(path, source)
        _save(index, file)
    views, shared = share_arrays({name: getattr(index, name) for name in _ARRAYS})
    return replace(index, shared=shared, **views)  # type: ignore[arg-type]
