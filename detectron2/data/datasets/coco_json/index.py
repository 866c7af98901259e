"""Index the annotations of a COCO file by their byte positions.

A large file is scanned once; the index keeps only the position and a few numbers of each annotation, and records
parse their annotations from the file on first use. The index is kept in the cache folder, in a file that all processes
map: they share its pages, and none of them reads what it does not use.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.utils.file_io import get_cache_dir
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.lock import made_once

from .build import Arrays, build_arrays

__all__ = ["CocoIndex", "file_stamp", "load_index"]

logger = logging.getLogger(__name__)

_VERSION = 3
_MAGIC = b"detectron2 coco index\n"
_ALIGNED = 64


@dataclass(frozen=True)
class CocoIndex:
    """Positions and a few numbers of the annotations of one file, grouped by image.

    Integers are in the smallest types that hold them.

    Attributes:
        image_ids: [N] in the order of the records (ascending).
        sizes: [N, 2] height and width.
        names: the N file names in UTF-8, each with a zero byte after it.
        name_ends: [N] positions of the zero bytes.
        first: [N + 1] annotations of image i are ``first[i] .. first[i + 1]``.
        starts: [M] first byte of each annotation.
        lengths: [M] bytes of each annotation.
        category_ids: category ids of the annotations, ascending.
        categories: [M] position of the category of each annotation in ``category_ids``.
        crowd: [M] ``iscrowd``.
        visible: [M] number of keypoints with a visibility above 0.
        usable: [M] false for annotations whose polygons all have fewer than 3 points.
        category_table: id and name of each category of the file.
        strays: number of annotations of images that the file does not list.
    """

    image_ids: npt.NDArray[np.integer]
    sizes: npt.NDArray[np.integer]
    names: npt.NDArray[np.uint8]
    name_ends: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.integer]
    category_ids: npt.NDArray[np.int64]
    categories: npt.NDArray[np.integer]
    crowd: npt.NDArray[np.integer]
    visible: npt.NDArray[np.integer]
    usable: npt.NDArray[np.bool_]
    category_table: list[dict[str, Any]]
    strays: int

    def file_names(self, images: npt.NDArray[np.integer]) -> list[str]:
        """Return the file names of some images."""
        ends = self.name_ends[images]
        starts = np.where(images > 0, self.name_ends[images - 1] + 1, 0)
        text = self.names.data
        return [str(text[a:b], "utf-8") for a, b in zip(starts.tolist(), ends.tolist())]

    def per_image(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the sum of the values of the annotations of each image, [N]."""
        before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return np.diff(before[self.first])


# ------------------------------------------------------------------ cache
def file_stamp(path: str) -> tuple[int, int]:
    """Return size and modification time of a file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _cache_file(path: str) -> Path:
    key = f"{_VERSION} {os.path.realpath(path)} {file_stamp(path)}"
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return Path(get_cache_dir()) / "detectron2" / "coco_index" / f"{name}.index"


def _save(arrays: Arrays, texts: dict[str, Any], file: Path) -> bool:
    """Write a head, which states where each array is, and the arrays."""
    places, end = {}, 0
    for name, array in arrays.items():
        places[name] = (array.dtype.str, array.shape, end)
        end += -(-array.nbytes // _ALIGNED) * _ALIGNED
    head = json.dumps({"arrays": places, "texts": texts, "bytes": end}).encode()
    head += b" " * (-(len(_MAGIC) + len(head) + 1) % _ALIGNED) + b"\n"
    try:
        with atomic_write(file, "wb") as f:
            f.write(_MAGIC + head)
            for array in arrays.values():
                f.write(np.ascontiguousarray(array).data)
                f.write(bytes(-array.nbytes % _ALIGNED))
    except OSError as error:
        logger.warning("The index of annotations was not kept, so that each process makes it anew: %s", error)
        return False
    return True


def _load(file: Path) -> CocoIndex | None:
    try:
        with open(file, "rb") as f:
            if f.readline() != _MAGIC:
                raise ValueError("it is of another kind")
            head = json.loads(f.readline())
            begin = f.tell()
            if os.fstat(f.fileno()).st_size != begin + head["bytes"]:
                raise ValueError("it is not complete")
            mapped = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        arrays = {
            name: np.ndarray(shape, dtype, mapped, begin + start)
            for name, (dtype, shape, start) in head["arrays"].items()
        }
        return _index(arrays, head["texts"])
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, TypeError) as error:
        logger.warning("The cached index %s is damaged and will be rebuilt: %s", file, error)
        return None


def _index(arrays: Arrays, texts: dict[str, Any]) -> CocoIndex:
    return CocoIndex(**arrays, **texts)  # type: ignore[arg-type]


def load_index(path: str, source: str | None = None) -> CocoIndex:
    """Return the index of a file, from the cache if the file has not changed since.

    Args:
        path: local file.
        source: name of the file for errors.

    Raises:
        NotIndexable: the file must be read as a whole.
        ValueError: it is not JSON, an annotation has an empty box, or an id is used twice.
    """
    return _load_index(path, source, _cache_file(path))


@functools.lru_cache(maxsize=4)
def _load_index(path: str, source: str | None, file: Path) -> CocoIndex:
    """Load the index; the name of the cache file changes with the indexed file."""
    index = _load(file)
    if index is not None:
        return index
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # a cache that cannot be written to
            held.enter_context(made_once(str(file)))
        index = _load(file)
        if index is None:
            arrays, texts = build_arrays(path, source)
            index = (_load(file) if _save(arrays, texts, file) else None) or _index(arrays, texts)
    return index
