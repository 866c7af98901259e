"""Common parts of the visualizers: OpenCV, and image regions of boxes."""

from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BLUE_TO_YELLOW", "RAINBOW", "Image", "blend", "clip_to_image", "opencv"]

Image = npt.NDArray[np.uint8]
"""(H, W, 3), BGR"""

BLUE_TO_YELLOW = 12
"""OpenCV id of the colour map Parula"""
RAINBOW = 2
"""OpenCV id of the colour map Jet"""


def opencv() -> ModuleType:
    """Import OpenCV.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError("drawing DensePose needs OpenCV: pip install 'detectron2[viz]'") from error
    return cv2


def clip_to_image(image: Image, box_xywh: Iterable[float]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of a box that lies in an image.

    Args:
        image: (H, W, ...).
        box_xywh: the box, truncated to integers.

    Returns:
        Rows and columns of the image, and rows and columns relative to the corner of the box; empty if they do not
        overlap.
    """
    x, y, w, h = (int(value) for value in box_xywh)
    height, width = image.shape[:2]
    x0, x1 = min(max(x, 0), width), min(max(x + w, 0), width)
    y0, y1 = min(max(y, 0), height), min(max(y + h, 0), height)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def blend(image: Image, region: Any, colors: Any, alpha: Any) -> None:
    """Blend colours into a region of an image, in place.

    Args:
        image: (H, W, 3).
        region: index of the region.
        colors: colours, broadcast to the region.
        alpha: opacity in [0, 1], broadcast to the region.
    """
    image[region] = (image[region] * (1.0 - alpha) + np.asarray(colors) * alpha).astype(np.uint8)
