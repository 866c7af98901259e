"""A record whose annotations stay in their file until they are used.

Parsed annotations of 118,000 images are some gigabytes of small Python objects. A :class:`LazyRecord` is a dict like
any other record, and as mutable, but parses its ``"annotations"`` on first access, from a source that all records
share and that each process opens once.
"""

import copy
from collections.abc import ItemsView, Iterator, ValuesView
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["AnnotationSource", "AnnotationSummary", "LazyRecord", "revive"]

_KEY = "annotations"
_MISSING = object()


@dataclass(frozen=True)
class AnnotationSummary:
    """What filters and samplers need from the annotations of one image.

    Attributes:
        category_ids: one per annotation, as in the record.
        crowd: ``iscrowd`` of each annotation.
        visible_keypoints: number of keypoints with a visibility above zero, per annotation.
    """

    category_ids: list[int]
    crowd: list[int]
    visible_keypoints: list[int]


class AnnotationSource(Protocol):
    """Supplies the annotations of records."""

    def annotations(self, index: int) -> list[dict[str, Any]]:
        """Parse the annotations of image ``index``."""

    def summary(self, index: int) -> AnnotationSummary:
        """Return the summary of image ``index``, without parsing."""

    def record(self, index: int) -> "LazyRecord":
        """Make the record of image ``index``."""

    def records(self, images: npt.NDArray[np.int64]) -> list["LazyRecord"]:
        """Make the records of some images."""

    def token(self) -> object:
        """Return a small, hashable, picklable value that lets another process open the same source."""

    def __len__(self) -> int:
        """Return the number of images."""

    def upright(self) -> npt.NDArray[np.bool_]:
        """Return whether each image is at most as wide as high, [N]."""

    def num_objects(self) -> npt.NDArray[np.int64]:
        """Return the number of annotations of each image that are no crowd regions, [N]."""

    def num_keypoints(self) -> npt.NDArray[np.int64]:
        """Return the number of visible keypoints of each image, [N]."""

    def count_categories(self, times: npt.NDArray[np.int64]) -> dict[int, int]:
        """Return the number of annotations of each category that occurs, without crowd regions.

        Args:
            times: how often each image counts, [N].
        """

    def categories_on_images(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return pairs of an image and a category that is on it, none twice, in the order of the images."""


class LazyRecord(dict):
    """A dict with all keys of a record; ``"annotations"`` is parsed on first use.

    Operations on the whole dict (iteration over values, comparison, copying, pickling) parse first, so that code for
    plain dicts works unchanged.

    Args:
        fields: the other keys of the record.
        source: supplies the annotations.
        index: of the image in the source.
    """

    __slots__ = ("_changed", "_index", "_source")

    def __init__(self, fields: dict[str, Any], source: AnnotationSource, index: int) -> None:
        dict.__init__(self, fields, annotations=None)
        self._source: AnnotationSource | None = source
        self._index = index
        self._changed = False

    @property
    def is_unchanged(self) -> bool:
        """Whether the source would make the same record again."""
        return self._source is not None and not self._changed

    def place(self) -> tuple[Any, int]:
        """Return the token of the source and the index in it."""
        assert self._source is not None
        return self._source.token(), self._index

    @property
    def is_packed(self) -> bool:
        """Whether the annotations are still unparsed."""
        return self._source is not None

    def annotation_summary(self) -> AnnotationSummary | None:
        """Return category ids and flags without parsing; None after parsing, since they may have changed."""
        return None if self._source is None else self._source.summary(self._index)

    def peek(self) -> list[dict[str, Any]]:
        """Return the annotations, parsed for the caller only: the record stays packed."""
        return dict.__getitem__(self, _KEY) if self._source is None else self._source.annotations(self._index)

    def reference(self) -> tuple[Any, int, dict[str, Any]]:
        """Return the arguments of :func:`revive`."""
        assert self._source is not None
        return self._source.token(), self._index, {k: v for k, v in dict.items(self) if k != _KEY}

    def _unpack(self) -> None:
        source = self._source
        if source is not None:
            dict.__setitem__(self, _KEY, source.annotations(self._index))
            self._source = None

    # -------------------------------------------------------------- one key
    def __getitem__(self, key: object) -> Any:
        if key == _KEY:
            self._unpack()
        return super().__getitem__(key)

    def get(self, key: object, default: object = None) -> Any:
        return self[key] if key in self else default

    def __setitem__(self, key: object, value: object) -> None:
        self._changed = True
        if key == _KEY:
            self._source = None
        super().__setitem__(key, value)

    def __delitem__(self, key: object) -> None:
        self._changed = True
        if key == _KEY:
            self._source = None
        super().__delitem__(key)

    def pop(self, key: object, default: object = _MISSING) -> Any:
        self._changed = True
        if key == _KEY:
            self._unpack()
        return super().pop(key) if default is _MISSING else super().pop(key, default)

    def setdefault(self, key: object, default: object = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    # -------------------------------------------------------------- the whole dict
    def __iter__(self) -> Iterator[Any]:
        # Overridden so that C code (dict(record), {**record}) calls __getitem__ instead of bypassing it.
        return super().__iter__()

    def items(self) -> ItemsView[Any, Any]:  # type: ignore[override]
        self._unpack()
        return super().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self._unpack()
        return super().values()

    def popitem(self) -> tuple[Any, Any]:
        self._unpack()
        return super().popitem()

    def update(self, *args: Any, **kwargs: object) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: dict[Any, Any]) -> "LazyRecord":  # type: ignore[override,misc]
        self.update(other)
        return self

    def __or__(self, other: dict[Any, Any]) -> dict[Any, Any]:
        return dict(self) | dict(other)

    def __ror__(self, other: dict[Any, Any]) -> dict[Any, Any]:
        return dict(other) | dict(self)

    def clear(self) -> None:
        self._source = None
        super().clear()

    def copy(self) -> dict[Any, Any]:
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        self._unpack()
        if isinstance(other, LazyRecord):
            other._unpack()
        return dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        self._unpack()
        return super().__repr__()

    def __copy__(self) -> dict[Any, Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        rest = {copy.deepcopy(k, memo): copy.deepcopy(v, memo) for k, v in dict.items(self) if k != _KEY}
        if _KEY in self:
            # Freshly parsed annotations are not shared, so that they need no copy.
            rest[_KEY] = self.peek() if self.is_packed else copy.deepcopy(self[_KEY], memo)
        return rest

    def __reduce_ex__(self, protocol: object) -> tuple[type, tuple[dict[Any, Any]]]:
        return dict, (dict(self.items()),)


def revive(token: Any, index: int, fields: dict[str, Any]) -> LazyRecord:
    """Recreate a record in another process; see :meth:`LazyRecord.reference`.

    Args:
        token: from :meth:`AnnotationSource.token`; ``token.open()`` returns the source.
        index: of the image in the source.
        fields: the other keys of the record.
    """
    return LazyRecord(fields, token.open(), index)
