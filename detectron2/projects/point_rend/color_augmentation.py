"""Random colour changes, as in the training of SSD."""

import random

import numpy as np

from detectron2.data import transforms as T

__all__ = ["ColorAugSSDTransform"]


class ColorAugSSDTransform(T.Transform):
    """Change brightness, contrast, saturation and hue, each with probability 1/2; the geometry stays.

    Contrast comes directly after brightness or last, at random. New amounts are drawn for every image with Python's
    ``random``, as in Detectron2, so that a seed gives the same colours.

    Args:
        img_format: channel order of the images, "BGR" or "RGB".
        brightness_delta: largest amount added or subtracted, in [0, 255].
        contrast_low, contrast_high: range of the factor of all values.
        saturation_low, saturation_high: range of the factor of the saturation.
        hue_delta: largest amount added to the hue or subtracted, in steps of 2 degrees.

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
        """Return the points unchanged."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Return the label map unchanged."""
        return segmentation

    def inverse(self) -> T.Transform:
        """Return a no-op: the geometry did not change, and colours cannot be restored."""
        return T.NoOpTransform()

    def apply_image(self, img: np.ndarray, interp: object = None) -> np.ndarray:
        """Change the colours of a uint8 image [H, W, 3]; ``interp`` is not used."""
        if self.is_rgb:
            img = img[:, :, ::-1]
        img = self.brightness(img)
        steps = [self.saturation, self.hue]
        steps.insert(0 if _coin() else 2, self.contrast)
        for step in steps:
            img = step(img)
        return np.ascontiguousarray(img[:, :, ::-1] if self.is_rgb else img)

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """Return ``alpha * img + beta``, clipped to [0, 255] and truncated to uint8."""
        return np.clip(img.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)

    def brightness(self, img: np.ndarray) -> np.ndarray:
        """Add a random number to all values of a BGR image, with probability 1/2."""
        if not _coin():
            return img
        return self.convert(img, beta=random.uniform(-self.brightness_delta, self.brightness_delta))

    def contrast(self, img: np.ndarray) -> np.ndarray:
        """Multiply all values of a BGR image by a random factor, with probability 1/2."""
        if not _coin():
            return img
        return self.convert(img, alpha=random.uniform(self.contrast_low, self.contrast_high))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """Multiply the saturation of a BGR image by a random factor, with probability 1/2."""
        if not _coin():
            return img
        hue, saturation, value = _hsv(img)
        factor = random.uniform(self.saturation_low, self.saturation_high)
        return _bgr(hue, self.convert(saturation, alpha=factor), value)

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Rotate the hue of a BGR image by a random angle, with probability 1/2."""
        if not _coin():
            return img
        hue, saturation, value = _hsv(img)
        return _bgr((hue + random.randint(-self.hue_delta, self.hue_delta)) % 180, saturation, value)


def _coin() -> bool:
    return bool(random.randrange(2))


def _rounded_ratio(numerator: np.ndarray, factor: int, divisor: np.ndarray) -> np.ndarray:
    """Return ``factor * numerator / divisor``, rounded with a table of 12 binary digits as in OpenCV."""
    table = np.rint((factor << 12) / np.maximum(divisor, 1)).astype(np.int64)
    return (numerator * table + (1 << 11)) >> 12


def _hsv(img: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hue in [0, 180), saturation and value in [0, 255] of a BGR image: integers [H, W, 1] as in OpenCV."""
    pixels = img.astype(np.int64)
    value = pixels.max(axis=2, keepdims=True)
    chroma = value - pixels.min(axis=2, keepdims=True)
    blue, green, red = np.split(pixels, 3, axis=2)
    sixths = np.where(
        value == red,
        green - blue,
        np.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma),
    )
    return _rounded_ratio(sixths, 30, chroma) % 180, _rounded_ratio(chroma, 255, value), value


def _bgr(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Convert the output of ``_hsv`` to a BGR image, rounded as in OpenCV."""
    # float32 throughout, because the result is truncated.
    one, most = np.float32(1), np.float32(255)
    v, s = (x.astype(np.float32) * (one / most) for x in (value, saturation))
    sixths = hue.astype(np.float32) * np.float32(1 / 30)
    part = sixths - np.floor(sixths)
    # Each channel is below the value by a fraction of the chroma, which depends on the hue.
    phases = (np.floor(sixths) + np.asarray([1, 3, 5], dtype=np.float32)) % 6
    shares = np.select(
        [phases == 0, phases == 3, (phases == 1) | (phases == 2)], [part, one - part, one], 0 * one
    )
    less = (1 - s.astype(np.float64) * shares).astype(np.float32)  # one rounding, as in fused operations
    pixels = v * less * most
    # OpenCV truncates in blocks of 32 pixels, and rounds the rest of a row.
    width = hue.shape[1]
    rest = np.arange(width) >= width - width % 32
    return (pixels + np.where(rest, np.float32(0.5), np.float32(0))[:, None]).astype(np.uint8)
