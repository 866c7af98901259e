"""Nested Python values as flat tuples, and back.

A graph takes and gives tensors; the models of this package take and give dicts, lists, ``Instances`` and ``Boxes``.
:func:`flatten_to_tuple` lays such a value out as a tuple of leaves and gives a schema with it. The schema, called with
the leaves, or with others of the same meaning, builds the value again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detectron2.layers import shapes_to_tensor
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, Keypoints, ROIMasks, RotatedBoxes
from detectron2.utils.registry import locate

__all__ = [
    "DictSchema",
    "IdentitySchema",
    "ImageListSchema",
    "InstancesSchema",
    "ListSchema",
    "Schema",
    "TensorWrapSchema",
    "TupleSchema",
    "flatten_to_tuple",
]

Leaves = tuple[Any, ...]

# Classes made of one tensor, which is their attribute `tensor` and the only argument of their constructor.
_WRAPPERS = (Boxes, RotatedBoxes, ROIMasks, BitMasks, Keypoints)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_BY_PATH = {_path(kind): kind for kind in _WRAPPERS}  # imports cannot be part of a graph


@dataclass
class Schema:
    """How a value is made of leaves. Schemas of values with the same structure are equal."""

    def __call__(self, values: Sequence[Any]) -> Any:
        """Build the value.

        Args:
            values: as many leaves as :meth:`flatten` gave, in the same order.

        Raises:
            ValueError: the number of leaves is another.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    @classmethod
    def flatten(cls, obj: object) -> tuple[Leaves, Schema]:
        """Return the leaves of a value, and the schema that puts them together again."""
        raise NotImplementedError(f"{cls.__name__} must define flatten")


@dataclass
class IdentitySchema(Schema):
    """A leaf: a tensor, or any value without a structure known here."""

    def __call__(self, values: Sequence[Any]) -> object:
        return _exactly(values, 1, "leaf")[0]

    @classmethod
    def flatten(cls, obj: object) -> tuple[Leaves, IdentitySchema]:
        return (obj,), cls()


@dataclass
class ListSchema(Schema):
    """A list.

    Args:
        schemas: of each entry.
        sizes: number of leaves of each entry.
    """

    schemas: Sequence[Schema]
    sizes: Sequence[int]

    def __call__(self, values: Sequence[Any]) -> object:
        return self._entries(values)

    def _entries(self, values: Sequence[Any]) -> list[Any]:
        rest = _exactly(values, sum(self.sizes), type(self).__name__)
        entries = []
        for schema, size in zip(self.schemas, self.sizes):
            entries.append(schema(rest[:size]))
            rest = rest[size:]
        return entries

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Leaves, ListSchema]:
        leaves, schemas, sizes = _flatten_all(obj)
        return leaves, cls(schemas, sizes)


@dataclass
class TupleSchema(ListSchema):
    """A tuple; what was a named tuple comes back as a plain one."""

    def __call__(self, values: Sequence[Any]) -> object:
        return tuple(self._entries(values))


@dataclass
class DictSchema(ListSchema):
    """A mapping from strings, laid out in the alphabetical order of its keys, whatever order it was filled in.

    Args:
        schemas: of each value.
        sizes: number of leaves of each value.
        keys: of the values, sorted.
    """

    keys: Sequence[str]

    def __call__(self, values: Sequence[Any]) -> object:
        return dict(zip(self.keys, self._entries(values)))

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Leaves, DictSchema]:
        for key in obj:
            if not isinstance(key, str):
                raise KeyError(f"keys of a mapping to be flattened must be strings, got {key!r}")
        keys = sorted(obj)
        leaves, schemas, sizes = _flatten_all([obj[key] for key in keys])
        return leaves, cls(schemas, sizes, keys)


@dataclass
class InstancesSchema(DictSchema):
    """``Instances``: the fields as those of a dict, then the image size as an int64 tensor (height, width).

    The image size comes back as a pair of ints, and as the tensor itself while a graph is made, where its values are
    not known.
    """

    def __call__(self, values: Sequence[Any]) -> object:
        *fields, size = _exactly(values, sum(self.sizes) + 1, type(self).__name__)
        return Instances(_as_sizes(size), **dict(zip(self.keys, self._entries(fields))))

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Leaves, InstancesSchema]:
        leaves, schema = super().flatten(obj.get_fields())
        return (*leaves, _as_tensor(obj.image_size)), cls(schema.schemas, schema.sizes, schema.keys)


@dataclass
class TensorWrapSchema(Schema):
    """An object made of one tensor: ``Boxes``, ``RotatedBoxes``, ``ROIMasks``, ``BitMasks`` or ``Keypoints``.

    Args:
        class_name: dotted path of its class.
    """

    class_name: str

    def __call__(self, values: Sequence[Any]) -> object:
        (tensor,) = _exactly(values, 1, self.class_name)
        kind = _BY_PATH.get(self.class_name) or locate(self.class_name)
        return kind(tensor)

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Leaves, TensorWrapSchema]:
        return (obj.tensor,), cls(_path(type(obj)))


@dataclass
class ImageListSchema(Schema):
    """``ImageList``: the padded batch, then the sizes of the N images as an int64 tensor [N, 2]."""

    def __call__(self, values: Sequence[Any]) -> object:
        batch, sizes = _exactly(values, 2, "ImageList")
        return ImageList(batch, [_as_sizes(size) for size in sizes])

    @classmethod
    def flatten(cls, obj: Any) -> tuple[Leaves, ImageListSchema]:
        sizes = [_as_tensor(size) for size in obj.image_sizes]
        return (obj.tensor, torch.stack(sizes)), cls()


def flatten_to_tuple(obj: object) -> tuple[Leaves, Schema]:
    """Lay a nested value out as a tuple.

    Lists, tuples, mappings with string keys, ``Instances``, ``ImageList`` and the classes of
    :class:`TensorWrapSchema` are taken apart; everything else, strings included, is a leaf.

    Args:
        obj: any value.

    Returns:
        The leaves, and the schema for which ``schema(leaves)`` equals ``obj``.

    Raises:
        KeyError: a mapping has a key that is not a string.

    Example:
        >>> leaves, schema = flatten_to_tuple({"b": [1, 2], "a": (3,)})
        >>> leaves
        (3, 1, 2)
        >>> schema(leaves)
        {'a': (3,), 'b': [1, 2]}
    """
    return _schema_class(obj).flatten(obj)


def _schema_class(obj: object) -> type[Schema]:
    if isinstance(obj, Instances):
        return InstancesSchema
    if isinstance(obj, ImageList):
        return ImageListSchema
    if isinstance(obj, _WRAPPERS):
        return TensorWrapSchema
    if isinstance(obj, Mapping):
        return DictSchema
    if isinstance(obj, tuple):
        return TupleSchema
    return ListSchema if isinstance(obj, list) else IdentitySchema


def _flatten_all(values: Iterable[Any]) -> tuple[Leaves, list[Schema], list[int]]:
    """All leaves of some values one after another, and the schema and number of leaves of each."""
    leaves: list[Any] = []
    schemas: list[Schema] = []
    sizes: list[int] = []
    for value in values:
        part, schema = flatten_to_tuple(value)
        leaves.extend(part)
        schemas.append(schema)
        sizes.append(len(part))
    return tuple(leaves), schemas, sizes


def _exactly(values: Sequence[Any], count: int, what: str) -> Sequence[Any]:
    if len(values) != count:
        raise ValueError(f"{what} is made of {count} value(s), got {len(values)}")
    return values


def _as_tensor(size: Tensor | Sequence[int]) -> Tensor:
    return size if isinstance(size, Tensor) else shapes_to_tensor(list(size))


def _as_sizes(size: object) -> Any:
    """Convert an image size to ints wherever they can be known."""
    if not isinstance(size, Tensor) or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return size
    return tuple(size.tolist())
