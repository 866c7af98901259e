"""Augmentations that change colours."""

from __future__ import annotations

import numpy as np

from detectron2.utils.errors import BadValue

from ..augmentation import Augmentation
from ..operations.base import Transform
from ..operations.color import BlendTransform

__all__ = ["RandomBrightness", "RandomContrast", "RandomLighting", "RandomSaturation"]

_LUMA = np.asarray([0.299, 0.587, 0.114])  # weights of R, G, B in ITU-R BT.601 luma


class RandomContrast(Augmentation):
    """Change contrast: blend with the mean value of the image.

    Args:
        intensity_min: minimum intensity; below 1 reduces contrast.
        intensity_max: maximum intensity; above 1 increases it.
    """

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        return _blend(image.mean(), self.intensity_min, self.intensity_max)

    intensity_min: float
    intensity_max: float


class RandomBrightness(Augmentation):
    """Change brightness: blend with black.

    Args:
        intensity_min: minimum intensity; below 1 darkens.
        intensity_max: maximum intensity; above 1 brightens.
    """

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        return _blend(0, self.intensity_min, self.intensity_max)

    intensity_min: float
    intensity_max: float


class RandomSaturation(Augmentation):
    """Change saturation: blend with the greyscale image. Channels must be in the order RGB.

    Args:
        intensity_min: minimum intensity; 0 is greyscale.
        intensity_max: maximum intensity; above 1 saturates.
    """

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        if image.ndim != 3 or image.shape[-1] != 3:
            raise BadValue(f"RandomSaturation needs an RGB image (H, W, 3), got {image.shape}")
        return _blend(image.dot(_LUMA)[:, :, None], self.intensity_min, self.intensity_max)

    intensity_min: float
    intensity_max: float


def _blend(dull: np.ndarray | float, low: float, high: float) -> Transform:
    """Blend the image with ``dull``, the image at intensity 0."""
    weight = np.random.uniform(low, high)
    return BlendTransform(src_image=dull, src_weight=1 - weight, dst_weight=weight)


class RandomLighting(Augmentation):
    """Shift all pixels along the principal components of ImageNet's colours. Channels must be in the order RGB.

    Args:
        scale: standard deviation of the shift along each component, in units of its standard deviation.

    Reference: Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks (2012),
    section 4.1.
    """

    def __init__(self, scale: float) -> None:
        self._init(locals())
        # Eigenvectors (columns) and eigenvalues of the RGB covariance of ImageNet, for values in [0, 1].
        self.eigen_vecs = np.asarray(
            [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
        )
        self.eigen_vals = np.asarray([0.2175, 0.0188, 0.0045])

    def get_transform(self, image: np.ndarray) -> Transform:
        if image.ndim != 3 or image.shape[-1] != 3:
            raise BadValue(f"RandomLighting needs an RGB image (H, W, 3), got {image.shape}")
        weights = np.random.normal(scale=self.scale, size=3)
        shift = self.eigen_vecs @ (weights * self.eigen_vals)
        return BlendTransform(src_image=shift, src_weight=1.0, dst_weight=1.0)

    scale: float
