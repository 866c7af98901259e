"""Records of a COCO file that parse their annotations from its byte positions on first use."""

import functools
import json
import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectron2.utils.memory import paused_garbage_collector

from .index import CocoIndex, file_stamp, load_index
from .lazy_record import AnnotationSummary, LazyRecord
from .records import AnnotationReader, class_table, contiguous_ids

__all__ = ["CocoSource", "lazy_records"]

logger = logging.getLogger(__name__)


class _Token(NamedTuple):
    """Identifies a source, so that another process can open the same one."""

    path: str
    name: str
    mapped: bool
    extra_keys: tuple[str, ...]
    stamp: tuple[int, int]
    image_root: str

    def open(self) -> "CocoSource":
        return _open_source(self)


@functools.lru_cache(maxsize=64)
def _open_source(token: _Token) -> "CocoSource":
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
        ids, _ = class_table(index.category_table, token.name)
        self._reader = AnnotationReader(
            token.name, contiguous_ids(ids) if token.mapped else None, token.extra_keys
        )
        # Forked workers can share the descriptor: each ``pread`` states its position.
        self._fd = os.open(token.path, os.O_RDONLY)
        status = os.fstat(self._fd)
        if (status.st_size, status.st_mtime_ns) != token.stamp:
            raise RuntimeError(f"{token.name} was changed while it was in use. Load the data set again.")
        self._classes = self._class_numbers(ids)

    def __del__(self) -> None:
        # At interpreter exit ``os`` may be gone already; the system then closes the file.
        if hasattr(self, "_fd") and os is not None:
            os.close(self._fd)

    def _class_numbers(self, ids: Sequence[int]) -> npt.NDArray[np.integer]:
        categories = self.index.categories
        if not self._token.mapped or not len(categories):
            return categories
        known = np.asarray(ids, dtype=np.int64)
        where = np.searchsorted(known, categories).clip(max=max(len(known) - 1, 0))
        wrong = np.flatnonzero(known[where] != categories) if len(known) else np.arange(len(categories))
        if len(wrong):
            self._reader(self._parse(int(wrong[0])))  # raises, naming annotation and image
        return where.astype(np.min_scalar_type(max(len(known) - 1, 0)))

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

    @property
    def usable_table(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.integer], npt.NDArray[np.uint8]]:
        """Image index, class and crowd flag of each usable annotation of all images."""
        usable = self.index.usable
        images = np.repeat(np.arange(len(self.index.image_ids)), np.diff(self.index.first))
        return images[usable], self._classes[usable], self.index.crowd[usable]

    @functools.cached_property
    def _usable_rows(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Return the first row of each image, and classes, crowd flags and visible keypoints of usable annotations."""
        usable = self.index.usable
        before = np.concatenate([[0], np.cumsum(usable)])
        rows = (self._classes[usable], self.index.crowd[usable], self.index.visible[usable])
        return before[self.index.first].tolist(), rows[0].tolist(), rows[1].tolist(), rows[2].tolist()

    def record(self, index: int) -> LazyRecord:
        height, width = self.index.sizes[index].tolist()
        name = os.path.join(self._token.image_root, self.index.file_name(index))
        return self._made(index, int(self.index.image_ids[index]), height, width, name)

    def records(self) -> list[dict[str, Any]]:
        """Make the records of all images."""
        names, root = self.index.file_names, self._token.image_root
        columns = zip(self.index.image_ids.tolist(), self.index.sizes.tolist(), names)
        with paused_garbage_collector():
            return [
                self._made(number, image_id, height, width, os.path.join(root, name))
                for number, (image_id, (height, width), name) in enumerate(columns)
            ]

    def _made(self, index: int, image_id: int, height: int, width: int, file_name: str) -> LazyRecord:
        fields = {"file_name": file_name, "height": height, "width": width, "image_id": image_id}
        return LazyRecord(fields, self, index)

    def token(self) -> _Token:
        return self._token


def lazy_records(
    path: str, name: str, image_root: str, mapped: bool, extra_keys: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return records of a file whose annotations are parsed on first use.

    Args:
        path: local file.
        name: the file as the user named it.
        image_root: folder of the images.
        mapped: convert category ids to class numbers.
        extra_keys: additional keys of annotations to keep.
    """
    source = _open_source(
        _Token(os.path.abspath(path), name, mapped, extra_keys, file_stamp(path), image_root)
    )
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
    return source.records()
