"""Augmentations: policies, usually random, that choose a transform for their input."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from detectron2.utils.errors import BadType, BadValue

from .operations.base import Transform, TransformList, describe_init

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "StandardAugInput",
    "TransformGen",
    "apply_augmentations",
    "apply_transform_gens",
]


def _argument_names(augmentation: Augmentation) -> tuple[str, ...]:
    """Return the attributes of the input that the parameters of ``get_transform`` name."""
    if type(augmentation).get_transform is Augmentation.get_transform:
        raise NotImplementedError(f"{type(augmentation).__name__} does not define get_transform")
    parameters = list(inspect.signature(augmentation.get_transform).parameters.values())
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise BadType(
            f"{type(augmentation).__name__}.get_transform takes *args or **kwargs, but its inputs must be known by "
            "name: give it plain parameters named like attributes of the AugInput, set input_args, or override __call__"
        )
    if len(parameters) == 1:  # a single argument is the image, regardless of its name
        return ("image",)
    for parameter in parameters:
        if parameter.default is not parameter.empty:
            raise BadType(
                f"{type(augmentation).__name__}.get_transform: parameter {parameter.name!r} has a default; the "
                "inputs of an augmentation are required"
            )
    return tuple(p.name for p in parameters)


class Augmentation:
    """A policy, usually random, that chooses a :class:`Transform` for each input.

    A subclass defines ``get_transform``, with parameters named after the attributes of :class:`AugInput` that it
    needs (``image``, ``boxes``, ``sem_seg``, or any attribute that you add there)::

        class CropTopLeft(Augmentation):
            def get_transform(self, image, boxes):
                return CropTransform(0, 0, 100, 100)
    """

    input_args: tuple[str, ...] | None = None
    """Attributes of the input to pass to ``get_transform``; None: read from its signature."""

    def _init(self, params: dict[str, Any] | None = None) -> None:
        """Store constructor arguments as attributes: ``self._init(locals())``."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def get_transform(self, *args: Any) -> Transform:
        """Choose the transform for an input, which must not be changed."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_transform")

    def __call__(self, aug_input: AugInput) -> Transform:
        """Choose a transform for ``aug_input``, apply it in place, and return it.

        Args:
            aug_input: has the attributes that ``get_transform`` needs and a method ``transform``.
        """
        if self.input_args is None:
            self.input_args = _argument_names(self)
        values = []
        for name in self.input_args:
            if not hasattr(aug_input, name):
                raise AttributeError(
                    f"{type(self).__name__}.get_transform needs {name!r}, which {type(aug_input).__name__} does "
                    f"not have; it has {sorted(vars(aug_input))}"
                )
            values.append(getattr(aug_input, name))
        transform = self.get_transform(*values)
        if not isinstance(transform, Transform):
            raise BadType(
                f"{type(self).__name__}.get_transform must return a Transform, got {type(transform).__name__}"
            )
        aug_input.transform(transform)
        return transform

    def _rand_range(
        self, low: float = 1.0, high: float | None = None, size: int | tuple[int, ...] | None = None
    ) -> Any:
        """Draw from the uniform distribution on [low, high), or on [0, low) without ``high``."""
        if high is None:
            low, high = 0.0, low
        return np.random.uniform(low, high, size)

    def __repr__(self) -> str:
        return describe_init(self)

    __str__ = __repr__


class _Fixed(Augmentation):
    """An augmentation that always chooses the same transform."""

    def __init__(self, tfm: Transform) -> None:
        self.tfm = tfm

    def get_transform(self, *args: object) -> Transform:
        return self.tfm

    def __call__(self, aug_input: AugInput) -> Transform:
        aug_input.transform(self.tfm)
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)


def as_augmentation(item: Augmentation | Transform) -> Augmentation:
    """Wrap a transform as an augmentation; return an augmentation unchanged.

    Raises:
        TypeError: if ``item`` is neither.
    """
    if isinstance(item, Augmentation):
        return item
    if isinstance(item, Transform):
        return _Fixed(item)
    raise BadType(f"expected an Augmentation or a Transform, got {type(item).__name__}: {item!r}")


class AugmentationList(Augmentation):
    """Several augmentations in sequence; each is applied to the result of the previous ones.

    Args:
        augs: augmentations, transforms, or objects that are called with the input and return a transform.
    """

    def __init__(self, augs: Sequence[Any]) -> None:
        self.augs = [
            as_augmentation(a) if isinstance(a, (Augmentation, Transform)) or not callable(a) else a
            for a in augs
        ]

    def __call__(self, aug_input: AugInput) -> TransformList:
        """Apply all in place, and return the list of transforms that they chose."""
        return TransformList([augmentation(aug_input) for augmentation in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(str, self.augs))}]"

    __str__ = __repr__


class AugInput:
    """The inputs of augmentations, to which the transforms are also applied.

    To add inputs, subclass it: add attributes, and transform them in :meth:`transform`.

    Args:
        image: array (H, W) or (H, W, C), uint8 in [0, 255], another integer type or floating point.
        boxes: array (N, 4) of absolute (x0, y0, x1, y1), or None.
        sem_seg: integer label map (H, W), or None.
    """

    def __init__(
        self, image: np.ndarray, *, boxes: np.ndarray | None = None, sem_seg: np.ndarray | None = None
    ) -> None:
        if not isinstance(image, np.ndarray):
            raise BadType(f"image must be a numpy array (H, W, C), got {type(image).__name__}")
        if image.ndim not in (2, 3):
            raise BadValue(f"image must have the shape (H, W) or (H, W, C), got {image.shape}")
        if image.dtype.kind not in "uif":
            raise BadType(f"image must be uint8, another integer type or floating point, got {image.dtype}")
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, tfm: Transform) -> None:
        """Apply a transform to all inputs in place."""
        self.image = tfm.apply_image(self.image)
        if self.boxes is not None:
            self.boxes = tfm.apply_box(self.boxes)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(self, augmentations: Sequence[Augmentation | Transform]) -> TransformList:
        """Apply augmentations in place and return the transforms that they chose."""
        return AugmentationList(augmentations)(self)


def apply_augmentations(
    augmentations: Sequence[Augmentation | Transform], inputs: Any
) -> tuple[Any, TransformList]:
    """Apply augmentations to an image or to an :class:`AugInput`.

    Args:
        augmentations: augmentations or transforms, in the order of their application.
        inputs: an image array, or an AugInput, which is changed in place.

    Returns:
        The new image array or the same AugInput, and the chosen transforms.
    """
    if isinstance(inputs, np.ndarray):
        holder = AugInput(inputs)
        chosen = holder.apply_augmentations(augmentations)
        return holder.image, chosen
    return inputs, inputs.apply_augmentations(augmentations)


# Older names of Detectron2.
TransformGen = Augmentation
StandardAugInput = AugInput
apply_transform_gens = apply_augmentations
augment_image = apply_augmentations

_transform_to_aug = as_augmentation
