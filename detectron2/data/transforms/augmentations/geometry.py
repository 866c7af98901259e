"""Augmentations that resize, flip and rotate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from detectron2.utils.errors import BadValue

from ..augmentation import AugInput, Augmentation, as_augmentation
from ..operations.base import NoOpTransform, Transform
from ..transform import ExtentTransform, HFlipTransform, ResizeTransform, RotationTransform, VFlipTransform

__all__ = [
    "RandomApply",
    "RandomEither",
    "RandomExtent",
    "RandomFlip",
    "RandomResize",
    "RandomRotation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]

T = TypeVar("T")
_STYLES = ("range", "choice")


def _check_style(style: str) -> None:
    if style not in _STYLES:
        raise BadValue(f"sample_style must be one of {_STYLES}, got {style!r}")


class RandomApply(Augmentation):
    """Apply an augmentation or transform with a given probability.

    Args:
        tfm_or_aug: augmentation or transform.
        prob: probability in [0, 1].
    """

    def __init__(self, tfm_or_aug: Augmentation | Transform, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise BadValue(f"prob must be in [0, 1], got {prob}")
        self.aug = as_augmentation(tfm_or_aug)
        self.prob = prob

    @property
    def tfm_or_aug(self) -> Augmentation:
        """The augmentation that is applied."""
        return self.aug

    def get_transform(self, *args: Any) -> Transform:
        return self.aug.get_transform(*args) if self._rand_range() < self.prob else NoOpTransform()

    def __call__(self, aug_input: AugInput) -> Transform:
        return self.aug(aug_input) if self._rand_range() < self.prob else NoOpTransform()


class RandomEither(Augmentation):
    """Apply one of two augmentations, each with probability 0.5.

    Args:
        first: applied if the number drawn from [0, 1) is above 0.5.
        second: applied otherwise.
    """

    def __init__(self, first: Augmentation | Transform, second: Augmentation | Transform) -> None:
        self.first = as_augmentation(first)
        self.second = as_augmentation(second)

    @property
    def augs(self) -> list[Augmentation]:
        """Both augmentations."""
        return [self.first, self.second]

    def __call__(self, aug_input: AugInput) -> Transform:
        """Augment in place and return the transform."""
        return (self.first if self._rand_range() > 0.5 else self.second)(aug_input)


class RandomFlip(Augmentation):
    """Mirror the image with a given probability.

    Args:
        prob: probability in [0, 1].
        horizontal: swap left and right.
        vertical: swap top and bottom; exactly one of the two must be true. For both, use two RandomFlip.
    """

    def __init__(self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False) -> None:
        if bool(horizontal) == bool(vertical):
            raise BadValue(
                f"exactly one of horizontal and vertical must be true, got horizontal={horizontal}, "
                f"vertical={vertical}; for flips in both directions use two RandomFlip"
            )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        if not self._rand_range() < self.prob:
            return NoOpTransform()
        height, width = image.shape[:2]
        return HFlipTransform(width) if self.horizontal else VFlipTransform(height)

    prob: float
    horizontal: bool
    vertical: bool


class Resize(Augmentation):
    """Resize to a fixed size.

    Args:
        shape: (height, width), or one number for both.
        interp: a filter of ``PIL.Image.Resampling``, or ``"fast"`` (see :class:`ResizeTransform`).
    """

    def __init__(self, shape: int | Sequence[int], interp: int | str = Image.Resampling.BILINEAR) -> None:
        shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        return ResizeTransform(height, width, self.shape[0], self.shape[1], self.interp)

    shape: tuple[int, int]
    interp: int | str


class RandomResize(Augmentation):
    """Resize to a size drawn from a list.

    Args:
        shape_list: sizes, each (height, width).
        interp: as in :class:`Resize`.
    """

    def __init__(
        self, shape_list: Sequence[tuple[int, int]], interp: int | str = Image.Resampling.BILINEAR
    ) -> None:
        if not len(shape_list):
            raise BadValue("shape_list must have at least one (height, width)")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        new_h, new_w = self.shape_list[np.random.choice(len(self.shape_list))]
        height, width = image.shape[:2]
        return ResizeTransform(height, width, new_h, new_w, self.interp)

    shape_list: Sequence[tuple[int, int]]
    interp: int | str


class ResizeShortestEdge(Augmentation):
    """Resize the shorter edge to a given length, or less if the longer edge would become too long.

    Args:
        short_edge_length: length in pixels, or (min, max) for ``"range"``, or a list of lengths for ``"choice"``. 0
            does not resize.
        max_size: maximum length of the longer edge.
        sample_style: ``"range"`` draws an integer from [min, max], ``"choice"`` one of the list.
        interp: as in :class:`Resize`.
    """

    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = sys.maxsize,
        sample_style: str = "range",
        interp: int | str = Image.Resampling.BILINEAR,
    ) -> None:
        _check_style(sample_style)
        self.is_range = sample_style == "range"
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        if self.is_range and len(short_edge_length) != 2:
            raise BadValue(
                f"with sample_style 'range', short_edge_length must be (min, max), got {short_edge_length}"
            )
        if not len(short_edge_length):
            raise BadValue("short_edge_length must have at least one length")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        if self.is_range:
            size = np.random.randint(self.short_edge_length[0], self.short_edge_length[1] + 1)
        else:
            size = np.random.choice(self.short_edge_length)
        if size == 0:
            return NoOpTransform()
        new_h, new_w = self.get_output_shape(height, width, int(size), self.max_size)
        # An image of 3000 x 1 pixels keeps its one row.
        return ResizeTransform(height, width, max(new_h, 1), max(new_w, 1), self.interp)

    @staticmethod
    def get_output_shape(oldh: int, oldw: int, short_edge_length: int, max_size: int) -> tuple[int, int]:
        """Return (height, width) of a resized ``oldh`` x ``oldw`` image; a side of a thin image may be 0."""
        scale = short_edge_length * 1.0 / min(oldh, oldw)
        # Only the longer edge is computed, so that the shorter one is exact.
        sides = [short_edge_length, scale * oldw] if oldh < oldw else [scale * oldh, short_edge_length]
        if max(sides) > max_size:
            shrink = max_size * 1.0 / max(sides)
            sides = [side * shrink for side in sides]
        return int(sides[0] + 0.5), int(sides[1] + 0.5)

    short_edge_length: Sequence[int]
    max_size: int
    sample_style: str
    interp: int | str


class ResizeScale(Augmentation):
    """Fit the image into a target size times a random factor: the first step of large-scale jittering.

    Args:
        min_scale: minimum factor.
        max_scale: maximum factor.
        target_height: height to fit into at factor 1.
        target_width: width to fit into at factor 1.
        interp: as in :class:`Resize`.

    Reference: Ghiasi et al., Simple Copy-Paste Is a Strong Data Augmentation Method for Instance Segmentation,
    https://arxiv.org/abs/2012.07177
    """

    def __init__(
        self,
        min_scale: float,
        max_scale: float,
        target_height: int,
        target_width: int,
        interp: int | str = Image.Resampling.BILINEAR,
    ) -> None:
        self._init(locals())

    def _get_resize(self, image: np.ndarray, scale: float) -> Transform:
        height, width = image.shape[:2]
        size = np.asarray([height, width])
        target = scale * np.asarray([self.target_height, self.target_width])
        new_h, new_w = np.round(size * np.min(target / size)).astype(int).tolist()
        return ResizeTransform(height, width, max(new_h, 1), max(new_w, 1), self.interp)

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))

    min_scale: float
    max_scale: float
    target_height: int
    target_width: int
    interp: int | str


class RandomRotation(Augmentation):
    """Rotate the image counter-clockwise by a random angle.

    Args:
        angle: in degrees: one number, or (min, max) for ``"range"``, or a list for ``"choice"``.
        expand: enlarge the canvas so that the whole image fits.
        center: point to rotate around, relative to the size (0 to 1): one (x, y), or ((x_min, y_min),
            (x_max, y_max)) for ``"range"``, or a list of (x, y) for ``"choice"``; default: the centre of the image.
            Ignored with ``expand``.
        sample_style: ``"range"`` or ``"choice"``, for both angle and center.
        interp: OpenCV's interpolation flag; bilinear by default.
    """

    def __init__(
        self,
        angle: float | Sequence[float],
        expand: bool = True,
        center: Sequence[Any] | None = None,
        sample_style: str = "range",
        interp: int | None = None,
    ) -> None:
        _check_style(sample_style)
        self.is_range = sample_style == "range"
        if isinstance(angle, (int, float)):
            angle = (angle, angle)
        if center is not None and np.ndim(center) == 1:  # one point
            center = (center, center)
        if self.is_range and (len(angle) != 2 or (center is not None and len(center) != 2)):
            raise BadValue(
                f"with sample_style 'range', angle and center need two ends, got {angle}, {center}"
            )
        self._init(locals())

    def _draw(self, options: Sequence[T]) -> T:
        if self.is_range:
            return np.random.uniform(options[0], options[1])  # type: ignore[call-overload]
        return options[np.random.randint(len(options))]

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        center = None
        angle = float(self._draw(self.angle))
        if self.center is not None:
            x, y = self._draw([np.asarray(point, dtype=np.float64) for point in self.center])
            center = (float(x) * width, float(y) * height)
        if angle % 360 == 0:
            return NoOpTransform()
        return RotationTransform(height, width, angle, expand=self.expand, center=center, interp=self.interp)

    angle: Sequence[float]
    expand: bool
    center: Sequence[Any] | None
    sample_style: str
    interp: int | None


class RandomExtent(Augmentation):
    """Crop a randomly scaled and shifted rectangle; parts outside the image are black.

    Args:
        scale_range: (min, max) size of the rectangle relative to the image.
        shift_range: (x, y) range of the shift of its centre relative to the image, half of it to each side.
    """

    def __init__(self, scale_range: tuple[float, float], shift_range: tuple[float, float]) -> None:
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        size = np.asarray([image.shape[1], image.shape[0]], dtype=np.float64)  # (w, h)
        half = size / 2 * np.random.uniform(self.scale_range[0], self.scale_range[1])
        shift = [extent * side * (np.random.rand() - 0.5) for extent, side in zip(self.shift_range, size)]
        middle = size / 2 + shift
        x0, y0, x1, y1 = np.concatenate([middle - half, middle + half]).tolist()
        transform = ExtentTransform(src_rect=(x0, y0, x1, y1), output_size=(int(y1 - y0), int(x1 - x0)))
        transform.label_interp = Image.Resampling.NEAREST  # class numbers must not be averaged
        return transform

    scale_range: tuple[float, float]
    shift_range: tuple[float, float]
