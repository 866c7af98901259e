"""Records of a COCO file that parse their annotations from its byte positions on first use."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .index import CocoIndex, file_stamp, load_index
from .lazy_list import LazyRecords
from .lazy_record import AnnotationSummary, LazyRecord
from .records import AnnotationReader, contiguous_ids

__all__ = ["CocoSource", "lazy_records"]

logger = logging.getLogger(__name__)


class _Token(NamedTuple):
    """Identifies a source, so that another process can open the same one."""

    path: str
    name: str
    ids: tuple[int, ...] | None
    extra_keys: tuple[str, ...]
    stamp: tuple[int, int]
    image_root: str

    def open(self) -> CocoSource:
        return _open_source(self)


@functools.lru_cache(maxsize=64)
def _open_source(token: _Token) -> CocoSource:
    return CocoSource(token, load_index(token.path, token.name))


class CocoSource:
    """Parses annotations from their byte positions in the file.

    Args:
        token: states the file and how to convert it.
        index: of the file.
    """

    def __init__(self, token: _Token, index: CocoIndex) -> None:
        self._token = token
        self.index = index
        self._reader = AnnotationReader(
            token.name, None if token.ids is None else contiguous_ids(token.ids), token.extra_keys
        )
        # Forked workers can share the descriptor: each ``pread`` states its position.
        self._fd = os.open(token.path, os.O_RDONLY)
        status = os.fstat(self._fd)
        if (status.st_size, status.st_mtime_ns) != token.stamp:
            raise RuntimeError(f"{token.name} was changed while it was in use. Load the data set again.")
        self._numbers = self._class_numbers()

    def __del__(self) -> None:
        # At interpreter exit ``os`` may be gone already; the system then closes the file.
        if hasattr(self, "_fd") and os is not None:
            os.close(self._fd)

    def _class_numbers(self) -> npt.NDArray[np.int64]:
        """Return the category id in records of each of the index's category ids."""
        if self._token.ids is None:
            return self.index.category_ids
        number_of = contiguous_ids(self._token.ids)
        numbers = [number_of.get(category, -1) for category in self.index.category_ids.tolist()]
        if -1 in numbers:
            wrong = np.flatnonzero(self.index.categories == numbers.index(-1))
            if len(wrong):
                self._reader(self._parse(wrong[:1])[0])  # raises, naming annotation and image
        return np.asarray(numbers, dtype=np.int64)

    def _parse(self, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        starts, lengths = self.index.starts[rows].tolist(), self.index.lengths[rows].tolist()
        texts = [os.pread(self._fd, length, start) for start, length in zip(starts, lengths)]
        try:
            return json.loads(b"[%b]" % b",".join(texts))
        except json.JSONDecodeError:
            for start, text in zip(starts, texts):
                self._check(start, text)
            raise

    def _check(self, start: int, text: bytes) -> None:
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{self._token.name}: the annotation at byte {start} is not JSON: {error}"
            ) from error

    def _rows(self, index: int) -> npt.NDArray[np.int64]:
        first, last = self.index.first[index : index + 2].tolist()
        return first + np.flatnonzero(self.index.usable[first:last])

    def annotations(self, index: int) -> list[dict[str, Any]]:
        converted = map(self._reader, self._parse(self._rows(index)))
        return [a for a in converted if a is not None]

    def summary(self, index: int) -> AnnotationSummary:
        rows = self._rows(index)
        columns = (
            self._numbers[self.index.categories[rows]],
            self.index.crowd[rows],
            self.index.visible[rows],
        )
        return AnnotationSummary(*(column.tolist() for column in columns))

    def record(self, index: int) -> LazyRecord:
        return self.records(np.asarray([index]))[0]

    def records(self, images: npt.NDArray[np.int64]) -> list[LazyRecord]:
        """Make the records of some images."""
        root = self._token.image_root
        columns = (self.index.image_ids[images], self.index.sizes[images], images)
        rows = zip(self.index.file_names(images), *(c.tolist() for c in columns))
        return [
            LazyRecord(
                {
                    "file_name": os.path.join(root, name),
                    "height": height,
                    "width": width,
                    "image_id": image_id,
                },
                self,
                image,
            )
            for name, image_id, (height, width), image in rows
        ]

    # -------------------------------------------------------------- all images at once
    def __len__(self) -> int:
        return len(self.index.image_ids)

    def upright(self) -> npt.NDArray[np.bool_]:
        return self.index.sizes[:, 1] <= self.index.sizes[:, 0]

    def num_objects(self) -> npt.NDArray[np.int64]:
        return self.index.per_image(self.index.usable & (self.index.crowd == 0))

    def num_keypoints(self) -> npt.NDArray[np.int64]:
        return self.index.per_image(np.where(self.index.usable, self.index.visible, 0))

    def count_categories(self, times: npt.NDArray[np.int64]) -> dict[int, int]:
        index = self.index
        weights = np.repeat(times, np.diff(index.first)) * (index.usable & (index.crowd == 0))
        counts = np.bincount(index.categories, weights, minlength=len(index.category_ids)).astype(np.int64)
        return {c: n for c, n in zip(self._numbers.tolist(), counts.tolist()) if n}

    def categories_on_images(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        number = max(len(self.index.category_ids), 1)
        images = np.repeat(np.arange(len(self)), np.diff(self.index.first))
        pairs = np.unique((images * number + self.index.categories)[self.index.usable])
        return pairs // number, self._numbers[pairs % number]

    def token(self) -> _Token:
        return self._token


def lazy_records(
    path: str,
    name: str,
    image_root: str,
    extra_keys: tuple[str, ...],
    ids: Callable[[list[dict[str, Any]]], Sequence[int] | None],
) -> LazyRecords:
    """Return records of a file whose annotations are parsed on first use.

    Args:
        path: local file.
        name: the file as the user named it.
        image_root: folder of the images.
        extra_keys: additional keys of annotations to keep.
        ids: returns the category ids in the order of the class numbers, given the categories of the file; or None to
            keep the ids.
    """
    index = load_index(path, name)
    known = ids(index.category_table)
    token = _Token(
        os.path.abspath(path),
        name,
        None if known is None else tuple(known),
        extra_keys,
        file_stamp(path),
        image_root,
    )
    source = _open_source(token)
    dropped = int(len(index.usable) - np.count_nonzero(index.usable))
    if dropped:
        logger.warning(
            "%s: left out %d annotations whose polygons all have fewer than 3 points or an odd number of coordinates",
            name, dropped,
        )  # fmt: skip
    if index.strays:
        logger.warning(
            "%s: left out %d annotations of images that the file does not list", name, index.strays
        )
    return LazyRecords.of_source(source)
