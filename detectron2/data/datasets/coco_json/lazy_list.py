"""A list of records that makes none of them before it is used."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

from detectron2.utils.memory import paused_garbage_collector

from .lazy_record import AnnotationSource, LazyRecord
from .objects import spread

__all__ = ["LazyRecords", "RecordList", "of_images"]

T = TypeVar("T")
Value = TypeVar("Value", bound=np.generic)


class RecordList(list):
    """A list of records that knows how many of them came from each data set.

    Attributes:
        lengths: data set name -> number of its records, in the order of the records.
    """

    lengths: dict[str, int]


@dataclass
class _Origin:
    """A source, and the records of it that were made: whoever changes one of them finds it changed."""

    source: AnnotationSource
    made: dict[int, LazyRecord] = field(default_factory=dict)

    def record(self, image: int) -> LazyRecord:
        found = self.made.get(image)
        if found is None:
            found = self.made[image] = self.source.record(image)
        return found

    def records(self, images: npt.NDArray[np.int64]) -> list[LazyRecord]:
        new = images if not self.made else np.setdiff1d(images, np.fromiter(self.made, dtype=np.int64))
        self.made |= zip(new.tolist(), self.source.records(new))
        return [self.made[image] for image in images.tolist()]


class LazyRecords(RecordList):
    """A list of records of large files, as mutable as any list of dicts.

    An element is made when it is read, and stays the same object. Whatever needs all elements or changes the list, such as
    iterating over it, makes them all first; from then on this is an ordinary list. Slices, and what the package itself
    does to prepare a training, make none: they work on the places of the records in the files.

    Args:
        origins: sources of the records.
        which: number of the source of each record.
        images: image of the source of each record.
    """

    def __init__(
        self, origins: Sequence[_Origin], which: npt.NDArray[np.integer], images: npt.NDArray[np.int64]
    ) -> None:
        super().__init__()
        self._origins, self._which = list(origins), which
        self._images: npt.NDArray[np.int64] | None = images

    @classmethod
    def of_source(cls, source: AnnotationSource) -> LazyRecords:
        """Return the records of all images of a source."""
        return cls([_Origin(source)], np.zeros(len(source), dtype=np.uint8), np.arange(len(source)))

    # -------------------------------------------------------------- without making records
    def places(self) -> tuple[list[AnnotationSource], npt.NDArray[np.integer], npt.NDArray[np.int64]] | None:
        """Return the sources, and the number of the source and the image of each record.

        None if the sources may not say what the records are: the list or one of its records was changed.
        """
        if self._images is None or not all(r.is_unchanged for o in self._origins for r in o.made.values()):
            return None
        return [o.source for o in self._origins], self._which, self._images

    def select(self, positions: npt.NDArray[Any] | slice) -> LazyRecords:
        """Return the records at some positions of a list that :meth:`places` knows."""
        assert self._images is not None
        return LazyRecords(self._origins, self._which[positions], self._images[positions])

    @staticmethod
    def joined(lists: Sequence[LazyRecords]) -> LazyRecords:
        """Join lists that :meth:`places` knows."""
        origins: list[_Origin] = []
        which, images = [], []
        for one in lists:
            assert one._images is not None
            which.append(one._which.astype(np.uint32) + len(origins))
            images.append(one._images)
            origins += one._origins
        return LazyRecords(origins, np.concatenate(which), np.concatenate(images))

    def count_categories(self) -> dict[int, int] | None:
        """Return the number of annotations of each category, without crowd regions; None if records may be changed."""
        places = self.places()
        if places is None:
            return None
        counts: Counter[int] = Counter()
        for number, source in enumerate(places[0]):
            images = places[2][places[1] == number]
            counts.update(source.count_categories(np.bincount(images, minlength=len(source))))
        return counts

    def categories_on_images(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
        """Return pairs of a position and a category that is on its image, none twice; None if records may be changed."""
        places = self.places()
        if places is None:
            return None
        found = []
        for number, source in enumerate(places[0]):
            positions = np.flatnonzero(places[1] == number)
            images, categories = source.categories_on_images()
            first = np.searchsorted(images, np.arange(len(source) + 1))
            wanted = places[2][positions]
            counts = np.diff(first)[wanted]
            found.append((np.repeat(positions, counts), categories[spread(first[wanted], counts)]))
        return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])

    # -------------------------------------------------------------- as a list
    def _make_all(self) -> None:
        if self._images is None:
            return
        found: list[Any] = [None] * len(self)
        with paused_garbage_collector():
            for number, origin in enumerate(self._origins):
                positions = np.flatnonzero(self._which == number)
                for position, record in zip(positions.tolist(), origin.records(self._images[positions])):
                    found[position] = record
        self._images = None
        self[:] = found
        self._origins = []

    def __len__(self) -> int:
        return super().__len__() if self._images is None else len(self._images)

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if self._images is None:
            return super().__getitem__(index)
        if isinstance(index, slice):
            return self.select(index)
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"index {number} of a list with {len(self)} records")
        return self._origins[int(self._which[number])].record(int(self._images[number]))

    def __radd__(self, other: object) -> object:
        self._make_all()  # Python then adds the lists as it adds any two
        return NotImplemented

    def __add__(self, other: list[Any]) -> list[Any]:  # type: ignore[override]
        return list(self) + other

    def _attributes(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __copy__(self) -> RecordList:
        plain = RecordList(self)
        plain.__dict__.update(self._attributes())
        return plain

    copy = __copy__

    def __reduce_ex__(
        self, protocol: SupportsIndex
    ) -> tuple[type[RecordList], tuple[list[Any]], dict[str, Any]]:
        return RecordList, (list(self),), self._attributes()


def _after_making(method: Callable[..., T]) -> Callable[..., T]:
    """Return a method of lists that makes the records of all lists involved before it runs."""

    @functools.wraps(method)
    def made(*args: object, **kwargs: object) -> T:
        for arg in args:
            if isinstance(arg, LazyRecords):
                arg._make_all()
        return method(*args, **kwargs)

    return made


for _name in (
    "__iter__", "__reversed__", "__contains__", "__setitem__", "__delitem__", "__iadd__", "__mul__", "__rmul__", "__imul__",
    "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__repr__", "append", "clear", "count", "extend", "index",
    "insert", "pop", "remove", "reverse", "sort",
):  # fmt: skip
    setattr(LazyRecords, _name, _after_making(getattr(list, _name)))


def of_images(
    records: LazyRecords, values: Callable[[AnnotationSource], npt.NDArray[Value]]
) -> npt.NDArray[Value] | None:
    """Return a value for each record, from the values of all images of each source; None if records may be changed."""
    places = records.places()
    if places is None:
        return None
    sources, which, images = places
    if len(sources) == 1:
        return values(sources[0])[images]
    found = np.concatenate([values(source) for source in sources])
    before = np.cumsum([0, *map(len, sources)])
    return found[before[which] + images]
