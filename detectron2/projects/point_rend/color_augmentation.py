"""Random changes of colours, as in the training of SSD."""

from typing import Any

import numpy as np

from detectron2.data import transforms as T

__all__ = ["ColorAugSSDTransform"]


class ColorAugSSDTransform(T.Transform):
    """Change brightness, contrast, saturation and hue, each with probability 1/2; shapes stay as they are.

    Contrast comes directly after brightness or last, at random. New amounts are drawn for every image.

    Args:
        img_format: "BGR" or "RGB", the order of channels of the images.
        brightness_delta: at most this much is added or subtracted, in [0, 255].
        contrast_low, contrast_high: range of the factor of all values.
        saturation_low, saturation_high: range of the factor of the saturation.
        hue_delta: at most this much is added to the hue or subtracted, in steps of 2 degrees.

    Reference: SSD: Single Shot MultiBox Detector, https://arxiv.org/abs/1512.02325
    """

    def __init__(
        self,
        img_format: str,
        brightness_delta: float = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ) -> None:
        if img_format not in ("BGR", "RGB"):
            raise ValueError(f"img_format must be 'BGR' or 'RGB', got {img_format!r}")
        self.img_format = img_format
        self.is_rgb = img_format == "RGB"
        self.brightness_delta = brightness_delta
        self.contrast_low, self.contrast_high = contrast_low, contrast_high
        self.saturation_low, self.saturation_high = saturation_low, saturation_high
        self.hue_delta = hue_delta

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Return the points as they are."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Return the label map as it is."""
        return segmentation

    def inverse(self) -> T.Transform:
        """Return a no-op: shapes did not change, and colours cannot be brought back."""
        return T.NoOpTransform()

    def apply_image(self, img: np.ndarray, interp: Any = None) -> np.ndarray:
        """Change the colours of a uint8 image [H, W, 3]; ``interp`` has no meaning here."""
        if self.is_rgb:
            img = img[:, :, ::-1]
        steps = [self.brightness, self.saturation, self.hue]
        steps.insert(1 if _coin() else 3, self.contrast)
        for step in steps:
            img = step(img)
        return np.ascontiguousarray(img[:, :, ::-1] if self.is_rgb else img)

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """``alpha * img + beta``, clipped to [0, 255] and cut to whole numbers, as uint8."""
        return np.clip(img.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)

    def brightness(self, img: np.ndarray) -> np.ndarray:
        """Perhaps add a random number to all values of a BGR image."""
        if not _coin():
            return img
        return self.convert(img, beta=np.random.uniform(-self.brightness_delta, self.brightness_delta))

    def contrast(self, img: np.ndarray) -> np.ndarray:
        """Perhaps multiply all values of a BGR image by a random factor."""
        if not _coin():
            return img
        return self.convert(img, alpha=np.random.uniform(self.contrast_low, self.contrast_high))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """Perhaps multiply the saturation of a BGR image by a random factor."""
        if not _coin():
            return img
        factor = np.random.uniform(self.saturation_low, self.saturation_high)
        pixels = img.astype(np.float32)
        value, chroma = _value_and_chroma(pixels)
        # Saturation is chroma / value, and at most 1. Grey pixels have none to change.
        factors = np.minimum(np.float32(factor), value / np.maximum(chroma, 1))
        return _round(value - (value - pixels) * factors)

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Perhaps turn the hue of a BGR image by a random angle."""
        if not _coin():
            return img
        shift = np.random.randint(-self.hue_delta, self.hue_delta + 1)  # of 180 in a full turn
        pixels = img.astype(np.float32)
        value, chroma = _value_and_chroma(pixels)
        turned = _hue(pixels, value, chroma) + np.float32(shift / 30)
        # Each channel falls short of the value by a share of the chroma that rises and falls with the hue.
        phases = (turned + np.asarray([1, 3, 5], dtype=np.float32)) % 6
        return _round(value - chroma * np.clip(np.minimum(phases, 4 - phases), 0, 1))


def _coin() -> bool:
    return bool(np.random.randint(2))


def _round(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _value_and_chroma(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest channel, and how far it is above the smallest, each [H, W, 1]."""
    value = pixels.max(axis=2, keepdims=True)
    return value, value - pixels.min(axis=2, keepdims=True)


def _hue(pixels: np.ndarray, value: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Hue [H, W, 1] of BGR pixels in sixths of a full turn: 0 red, 2 green, 4 blue."""
    blue, green, red = np.split(pixels, 3, axis=2)
    scale = 1 / np.maximum(chroma, 1)  # chroma of whole numbers is 0 or at least 1
    return np.where(
        value == red,
        (green - blue) * scale,
        np.where(value == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    )
