"""Per-instance data of one image."""

from collections.abc import Iterator, Sequence, Sized
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor

from detectron2.utils.errors import BadType, BadValue
from detectron2.utils.tracing import is_recording

from ._indexing import Index, as_index, is_single, row_slice
from .exchange import coco_records, data_frame, html_view, supervision_detections

__all__ = ["Instances"]


class Instances:
    """Fields with one entry per instance of an image: boxes, scores, masks, or anything that has a length.

    Fields are set and read as attributes. All have the same length; indexing, moving and concatenating apply to every
    field::

        >>> found = Instances((480, 640), scores=torch.tensor([0.9, 0.2]))
        >>> found.pred_classes = torch.tensor([3, 7])
        >>> found[found.scores > 0.5].pred_classes
        tensor([3])

    Args:
        image_size: (height, width) of the image.
        **kwargs: initial fields.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Sized) -> None:
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self._image_size

    def __setattr__(self, name: str, val: Sized) -> None:
        if name.startswith("_"):
            super().__setattr__(name, val)
        else:
            self.set(name, val)

    def __getattr__(self, name: str) -> Any:
        # Called only if there is no such attribute; while unpickling there are no fields yet.
        fields = self.__dict__.get("_fields")
        if fields is None or name not in fields:
            known = ", ".join(fields) if fields else "none"
            raise AttributeError(f"Instances have no field {name!r}; fields: {known}")
        return fields[name]

    def set(self, name: str, value: Sized) -> None:
        """Set the field ``name``.

        Args:
            name: name of the field.
            value: anything with a length: tensor, list, ``Boxes``, ``BitMasks``, ...

        Raises:
            ValueError: if the length differs from that of the existing fields.
        """
        # Lengths of traced tensors are symbols, whose equality may be unknown.
        if self._fields and not is_recording():
            length = len(self)
            if len(value) != length:
                raise BadValue(f"field {name!r} has {len(value)} entries for {length} instances")
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Return whether there is a field ``name``."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Remove the field ``name``."""
        del self._fields[name]

    def get(self, name: str) -> Any:
        """Return the field ``name``; ``KeyError`` if there is none."""
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """Return the dict of all fields itself; changing it bypasses the check of lengths."""
        return self._fields

    def _like(self, fields: dict[str, Any]) -> "Instances":
        new = type(self)(self._image_size)
        new._fields = fields
        return new

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """Return a copy with ``to`` called on every field that has this method."""
        moved = {k: v.to(*args, **kwargs) if hasattr(v, "to") else v for k, v in self._fields.items()}
        return self._like(moved)

    def __getitem__(self, item: Index) -> "Instances":
        """Select instances.

        Args:
            item: an integer of any kind (selects one instance), a slice, or an index or mask tensor.
        """
        if is_single(item):
            item = row_slice(item, len(self))
        elif _is_device_mask(item) and item.shape == (len(self),):
            item = item.nonzero()[:, 0]  # wait for the device once, not for each field
        return self._like({k: _pick(v, item) for k, v in self._fields.items()})

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without a field have no length; set a field first")

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError("Instances cannot be iterated; use `for i in range(len(x)): x[i]`")

    @staticmethod
    def cat(instance_lists: Sequence["Instances"]) -> "Instances":
        """Concatenate instances of one image.

        Args:
            instance_lists: at least one, all with the same fields and image size.

        Returns:
            A new object, or the only element of the list itself.

        Raises:
            ValueError: if the list is empty, or sizes or fields differ.
        """
        if len(instance_lists) == 0 or not all(isinstance(i, Instances) for i in instance_lists):
            raise BadValue("Instances.cat expects one or more Instances")
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        for other in instance_lists[1:]:
            if not _same_size(other.image_size, first.image_size):
                raise BadValue(
                    f"Instances.cat joins instances of one image, got sizes {first.image_size} and {other.image_size}"
                )
            if other._fields.keys() != first._fields.keys():
                raise BadValue(f"Instances.cat got fields {list(first._fields)} and {list(other._fields)}")
        return first._like({k: _join([i.get(k) for i in instance_lists]) for k in first._fields})

    def to_coco(
        self,
        image_id: int | str = 0,
        class_names: Sequence[str] | None = None,
        masks: Literal["rle", "polygons"] = "rle",
    ) -> list[dict[str, Any]]:
        """Return one COCO result for each instance, ready for JSON.

        Args:
            image_id: id of the image.
            class_names: names of the classes, to be written as "class"; None leaves them out.
            masks: "rle" for run-length encodings, or "polygons" for outer outlines, with holes filled.

        Returns:
            Dicts with "image_id" and "bbox" (x, y, width, height; five numbers for a rotated box). If the instances
            have them, also "score", "category_id" (the class index), "segmentation", "keypoints" and "track_id".
        """
        return coco_records(self, image_id, class_names, masks)

    def to_dataframe(self, class_names: Sequence[str] | None = None) -> Any:
        """Return a ``pandas.DataFrame`` with one row per instance: class, score, box and area of the mask.

        Args:
            class_names: names of the classes; None uses their indices.

        Raises:
            ImportError: without pandas (extra ``frames``).
        """
        return data_frame(self, class_names)

    def to_supervision(self, class_names: Sequence[str] | None = None) -> Any:
        """Return ``supervision.Detections`` with boxes, masks, scores, classes and track ids.

        Args:
            class_names: names of the classes, to be given as ``data["class_name"]``; None leaves them out.

        Raises:
            ImportError: without supervision (extra ``supervision``).
        """
        return supervision_detections(self, class_names)

    def _repr_html_(self) -> str:
        """Show outlines and a table in a notebook."""
        return html_view(self)

    def __str__(self) -> str:
        fields = ", ".join(f"{k}: {v}" for k, v in self._fields.items())
        return f"{self._header()}, fields=[{fields}])"

    def __repr__(self) -> str:
        return str(self)

    def _header(self) -> str:
        height, width = self._image_size
        count = len(self) if self._fields else 0
        return f"{type(self).__name__}(num_instances={count}, image_height={height}, image_width={width}"


def _same_size(a: Sequence[int] | Tensor, b: Sequence[int] | Tensor) -> bool:
    if a is b:
        return True
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return bool(torch.equal(torch.as_tensor(a).cpu(), torch.as_tensor(b).cpu()))
    return tuple(a) == tuple(b)


def _is_device_mask(item: object) -> TypeGuard[Tensor]:
    return isinstance(item, Tensor) and item.dtype == torch.bool and item.device.type != "cpu"


def _pick(value: Any, item: Index) -> Any:
    """Select entries of one field; lists and tuples also accept index and mask tensors."""
    if isinstance(value, (list, tuple)) and not isinstance(item, slice):
        return type(value)(value[i] for i in as_index(item, len(value)))
    return value[item]


def _join(values: list[Any]) -> Any:
    """Concatenate one field of several objects."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, (list, tuple)):
        return type(first)(entry for value in values for entry in value)
    if not hasattr(type(first), "cat"):
        raise BadType(
            f"Instances.cat cannot join fields of type {type(first).__name__}: it has no method `cat`"
        )
    return type(first).cat(values)
