"""The base class of all transforms, and lists of transforms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from detectron2.utils.errors import BadType, BadValue

__all__ = ["NoOpTransform", "Transform", "TransformList", "as_coords", "describe_init"]

Steps: TypeAlias = "Transform | Sequence[Transform]"
F = TypeVar("F", bound=Callable[..., Any])


def as_coords(coords: npt.ArrayLike) -> np.ndarray:
    """Return points as a new floating-point array of shape (N, 2).

    Transforms never change their input, and integer input must not truncate the result.
    """
    points = np.array(coords)
    if not np.issubdtype(points.dtype, np.floating):
        points = points.astype(np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        if points.size == 0:
            return points.reshape(0, 2)
        raise BadValue(f"coords must be an array of shape (N, 2) holding (x, y), got {points.shape}")
    return points


def describe_init(obj: object) -> str:
    """Format ``Name(arg=value, …)`` from the constructor's signature and the attributes of the same names."""
    parts = []
    for name, param in inspect.signature(type(obj).__init__).parameters.items():
        if name == "self" or param.kind in (param.VAR_POSITIONAL, param.VAR_KEYWORD):
            continue
        if not hasattr(obj, name):
            return object.__repr__(obj)
        value = getattr(obj, name)
        if value is param.default:  # `is`: an argument that was passed is shown even if it equals the default
            continue
        text = repr(value)
        parts.append(f"{name}={text if len(text) <= 80 else text[:77] + '...'}")
    return f"{type(obj).__name__}({', '.join(parts)})"


class Transform:
    """A deterministic transform of an image and its labels.

    A subclass defines ``apply_image`` and ``apply_coords``; by default boxes and polygons are transformed by their
    points, and label maps like images. No method changes its input.

    Points are continuous: the centre of the pixel in column ``i`` and row ``j`` is ``(i + 0.5, j + 0.5)``.

    More data types can be added with :meth:`register_type`::

        @HFlipTransform.register_type("rotated_box")
        def flip_rotated_boxes(transform, rotated_boxes): ...

        HFlipTransform(640).apply_rotated_box(boxes)
    """

    data_types: ClassVar[set[str]] = set()
    """The data types registered on any transform."""

    def _set_attributes(self, params: dict[str, Any] | None = None) -> None:
        """Store constructor arguments as attributes: ``self._set_attributes(locals())``."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Transform an image.

        Args:
            img: array (H, W) or (H, W, C), uint8 in [0, 255] or floating point.

        Returns:
            The new image, of the same dtype and number of dimensions.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define apply_image")

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Transform points.

        Args:
            coords: floating-point array (N, 2) of absolute (x, y).

        Returns:
            A new array (N, 2).
        """
        raise NotImplementedError(f"{type(self).__name__} does not define apply_coords")

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Transform a label map or mask of shape (H, W); by default like an image."""
        return self.apply_image(segmentation)

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Transform the corners of axis-aligned boxes, and return the axis-aligned boxes around them.

        Args:
            box: array (N, 4) of absolute (x0, y0, x1, y1).

        Returns:
            A new floating-point array (N, 4), not clipped to the image.
        """
        boxes = np.asarray(box).reshape(-1, 4)
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
        moved = np.asarray(self.apply_coords(corners)).reshape(-1, 4, 2)  # [N, corner, xy]
        return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)

    def apply_polygons(self, polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Transform polygons, each an array (N, 2) of absolute (x, y)."""
        return [self.apply_coords(polygon) for polygon in polygons]

    def inverse(self) -> Transform:
        """Return the inverse transform, exact for points and as close as possible for images.

        Raises:
            NotImplementedError: if this transform has no inverse.
        """
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    @classmethod
    def register_type(cls, data_type: str, func: Callable[..., Any] | None = None) -> Any:
        """Let this class and its subclasses transform one more type of data.

        Args:
            data_type: name of the type; adds the method ``apply_<data_type>``.
            func: maps the transform and the data to the new data; omit it to use this as a decorator.
        """

        def add(function: F) -> F:
            if not callable(function):
                raise BadType(f"func must be callable, got {type(function).__name__}")
            names = inspect.signature(function).parameters
            if len(names) != 2:
                raise BadType(f"func must take the transform and the data, got the arguments {list(names)}")
            setattr(cls, f"apply_{data_type}", function)
            Transform.data_types.add(data_type)
            return function

        return add if func is None else add(func)

    def __repr__(self) -> str:
        return describe_init(self)


class NoOpTransform(Transform):
    """Change nothing, for any type of data."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def inverse(self) -> Transform:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("apply_"):
            return lambda data: data
        raise AttributeError(f"NoOpTransform has no attribute {name!r}")


class TransformList(Transform):
    """Several transforms in sequence; nested lists are flattened.

    Args:
        transforms: :class:`Transform` objects, in the order of their application.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms: list[Transform] = []
        for item in transforms:
            if not isinstance(item, Transform):
                raise BadType(f"transforms must be Transform objects, got {type(item).__name__}: {item!r}")
            self.transforms.extend(item.transforms if isinstance(item, TransformList) else [item])

    def _chain(self, name: str, data: object) -> Any:
        for transform in self.transforms:
            data = getattr(transform, name)(data)
        return data

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self._chain("apply_image", img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return self._chain("apply_coords", coords)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self._chain("apply_segmentation", segmentation)

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        return self._chain("apply_box", box)

    def apply_polygons(self, polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._chain("apply_polygons", polygons)

    def __getattr__(self, name: str) -> Any:
        # Reached for data types added by register_type.
        if name.startswith("apply_"):
            return lambda data: self._chain(name, data)
        raise AttributeError(f"TransformList has no attribute {name!r}")

    def inverse(self) -> TransformList:
        """Return the inverses in reverse order."""
        return TransformList([t.inverse() for t in reversed(self.transforms)])

    def insert(self, index: int, transform: Transform) -> None:
        """Insert a transform or a list of transforms before position ``index``."""
        self.transforms[index:index] = TransformList([transform]).transforms

    def _combined(self, first: Steps, second: Steps) -> TransformList:
        parts = [[x] if isinstance(x, Transform) else list(x) for x in (first, second)]
        return TransformList(parts[0] + parts[1])

    def __add__(self, other: Steps) -> TransformList:
        return self._combined(self, other)

    def __radd__(self, other: Steps) -> TransformList:
        return self._combined(other, self)

    def __iadd__(self, other: Steps) -> TransformList:
        self.transforms.extend(self._combined([], other).transforms)
        return self

    def __len__(self) -> int:
        return len(self.transforms)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.transforms)

    def __getitem__(self, index: int) -> Transform:
        return self.transforms[index]

    def __repr__(self) -> str:
        return f"TransformList{self.transforms!r}"
