"""Catalogs that map data set names to loading functions and metadata."""

import contextlib
import copy
import logging
import os
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

from detectron2.utils.errors import BadAttribute, BadType, BadValue, UnknownNameError
from detectron2.utils.reexports import passed_on
from detectron2.utils.suggest import did_you_mean

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog", "forget", "overwriting"]

__getattr__ = passed_on(__name__)

logger = logging.getLogger(__name__)

_OVERWRITE: ContextVar[bool] = ContextVar("detectron2_overwrite_datasets", default=False)

# Attribute names from the first releases of the API, which old code still reads.
_RENAMED = {
    "class_names": "thing_classes",
    "dataset_id_to_contiguous_id": "thing_dataset_id_to_contiguous_id",
    "stuff_class_names": "stuff_classes",
}


@contextlib.contextmanager
def overwriting() -> Iterator[None]:
    """Let registrations inside the block replace earlier ones of the same name.

    For notebooks, whose cells run repeatedly::

        with overwriting():
            register_coco_instances("parts", {}, "parts.json", "images")
    """
    token = _OVERWRITE.set(True)
    try:
        yield
    finally:
        _OVERWRITE.reset(token)


def forget(*names: str) -> None:
    """Remove data sets and their metadata from both catalogs; unknown names are ignored."""
    for name in names:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


class _DatasetCatalog(UserDict):
    """Data set name -> function that returns its records (``list[dict]``).

    Registering does not call the function; each :meth:`get` does. It must return the same records in the same
    order each time, since ranks and evaluators call it independently of each other.
    """

    def register(self, name: str, func: Callable[[], Any], overwrite: bool = False) -> None:
        """Register the function that loads a data set.

        Args:
            name: for example ``"parts_train"``.
            func: takes no arguments and returns a list of records in the format of ``docs/data.md``.
            overwrite: replace an earlier registration of this name, and drop its metadata.

        Raises:
            TypeError: ``func`` is not callable.
            ValueError: the name is taken and ``overwrite`` is false.
        """
        if not callable(func):
            raise BadType(
                f"data set {name!r}: expected a function that returns the records, got {type(func).__name__}. "
                "Wrap records that are already loaded: DatasetCatalog.register(name, lambda: records)"
            )
        if name in self.data:
            if not (overwrite or _OVERWRITE.get()):
                raise BadValue(
                    f"data set {name!r} is registered already. Choose another name, or replace it with "
                    f"DatasetCatalog.register({name!r}, func, overwrite=True). Around other register_* functions, "
                    "use `with detectron2.data.catalog.overwriting():`"
                )
            MetadataCatalog.pop(name, None)
        self.data[name] = func

    def get(self, name: str) -> Any:  # type: ignore[override]
        """Load a data set by calling its function.

        Raises:
            KeyError: no data set has this name; the message lists the nearest names.
            FileNotFoundError: its files are missing.
        """
        load = self[name]
        try:
            return load()
        except FileNotFoundError as error:
            root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
            if not str(error.filename or error).startswith(root):
                raise
            raise FileNotFoundError(
                f"data set {name!r}: there is no file {error.filename or error}. Built-in data sets are expected in "
                f"the folder that the environment variable DETECTRON2_DATASETS names (now {root!r}); see "
                "datasets/README.md"
            ) from error

    def __missing__(self, name: str) -> Callable[[], Any]:
        raise UnknownNameError(f"no data set is registered as {name!r}. {did_you_mean(str(name), self.data)}")

    def list(self) -> list[str]:
        """Return the names of all data sets, in the order of registration."""
        return list(self.data)

    def remove(self, name: str) -> None:
        """Forget a data set; its metadata stay (see :func:`forget`).

        Raises:
            KeyError: no data set has this name.
        """
        self[name]
        del self.data[name]

    def __str__(self) -> str:
        return f"DatasetCatalog({len(self.data)} data sets: {', '.join(self.data)})"

    __repr__ = __str__


def _same(a: Any, b: Any) -> bool:
    """Return whether two values are equal; arrays and tensors are equal if all their elements are."""
    try:
        return bool(a == b)
    except (ValueError, RuntimeError):
        return type(a) is type(b) and a.shape == b.shape and bool((a == b).all())


class Metadata(SimpleNamespace):
    """Metadata of one data set: class names, colours, paths, the type of evaluator.

    Values are read and written as attributes. An attribute can only be set again to an equal value, because earlier
    code may have used the first one. To change it deliberately, delete the attribute or use
    ``DatasetCatalog.register(..., overwrite=True)``.

    Attributes that the package reads: ``thing_classes``, ``thing_colors``, ``stuff_classes``, ``stuff_colors``,
    ``keypoint_names``, ``keypoint_flip_map``, ``keypoint_connection_rules``, ``ignore_label``,
    ``evaluator_type``, ``thing_dataset_id_to_contiguous_id``, ``stuff_dataset_id_to_contiguous_id``,
    ``json_file``, ``image_root``, ``panoptic_root``, ``panoptic_json``, ``sem_seg_root``, ``class_image_count``.
    """

    name: str = "N/A"

    def __getattr__(self, key: str) -> Any:
        if key in _RENAMED:
            return getattr(self, _RENAMED[key])
        if key.startswith("__"):
            raise AttributeError(key)
        known = [k for k in self.__dict__ if k != "name"]
        if len(known) == 0:
            hint = "Nothing is set yet: load the data set first, or set it with MetadataCatalog.get(name).set(...)."
        else:
            hint = f"{did_you_mean(key, known)} Set are: {', '.join(known)}."
        raise AttributeError(f"metadata of {self.name!r} have no {key!r}. {hint}")

    def __setattr__(self, key: str, val: object) -> None:
        key = _RENAMED.get(key, key)
        if key in self.__dict__ and not _OVERWRITE.get() and not _same(self.__dict__[key], val):
            raise BadAttribute(
                f"metadata of {self.name!r}: {key!r} is {_shorten(self.__dict__[key])} and cannot become "
                f"{_shorten(val)}, since earlier code may have used the first value. To change it deliberately, "
                f"`del MetadataCatalog.get({self.name!r}).{key}` first, or register under another name."
            )
        super().__setattr__(key, val)

    def as_dict(self) -> dict[str, Any]:
        """Return all values as a new dict; the values themselves are not copied."""
        return copy.copy(self.__dict__)

    def set(self, **kwargs: object) -> "Metadata":
        """Set several values; returns ``self``, so that calls can be chained."""
        for key, val in kwargs.items():
            setattr(self, key, val)
        return self

    def get(self, key: str, default: object = None) -> Any:
        """Return the value of ``key``, or ``default`` if it is not set."""
        return self.__dict__.get(_RENAMED.get(key, key), default)


def _shorten(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


class _MetadataCatalog(UserDict):
    """Data set name -> :class:`Metadata`, which is created empty for a new name."""

    def __init__(self) -> None:
        super().__init__()
        self._deferred: dict[str, list[Callable[[], Mapping[str, Any]]]] = {}

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """Return the metadata of a data set, which need not be registered yet; the same object at each call."""
        if not name:
            raise BadValue("a data set needs a name that is not empty")
        if name not in self.data:
            self.data[name] = Metadata(name=name)
        meta: Metadata = self.data[name]
        for values in self._deferred.pop(name, ()):
            meta.set(**values())
        return meta

    def defer(self, name: str, values: Callable[[], Mapping[str, Any]]) -> None:
        """Set attributes at the first :meth:`get`, so that registering reads no file.

        Args:
            name: name of a data set.
            values: takes no arguments, returns the attributes to set.
        """
        self._deferred.setdefault(name, []).append(values)

    def __getitem__(self, name: str) -> Metadata:
        if name not in self:
            raise UnknownNameError(f"no metadata for {name!r}. {did_you_mean(str(name), self.list())}")
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self.data or name in self._deferred

    def list(self) -> list[str]:
        """Return the names of all data sets that have metadata."""
        return list(dict.fromkeys([*self.data, *self._deferred]))

    def pop(self, name: str, *default: object) -> Any:
        """Remove and return the metadata of ``name``."""
        if name not in self and default:
            return default[0]
        meta = self[name]
        self.remove(name)
        return meta

    def remove(self, name: str) -> None:
        """Forget the metadata of a data set.

        Raises:
            KeyError: there are none.
        """
        if name not in self:
            raise UnknownNameError(f"no metadata for {name!r}. {did_you_mean(str(name), self.list())}")
        self.data.pop(name, None)
        self._deferred.pop(name, None)

    def __str__(self) -> str:
        return f"MetadataCatalog({len(self.list())} data sets: {', '.join(self.list())})"

    __repr__ = __str__


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
