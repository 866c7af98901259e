"""Output images of the programs."""

import os

import numpy as np

from .drawing import Image, opencv

__all__ = ["to_grey", "write_numbered"]


def to_grey(image_bgr: Image) -> Image:
    """Convert an image to grey, so that drawn colours stand out.

    Args:
        image_bgr: uint8 BGR array (H, W, 3).

    Returns:
        A new array of the same shape.
    """
    return np.repeat(opencv().cvtColor(image_bgr, opencv().COLOR_BGR2GRAY)[..., None], 3, axis=2)


def write_numbered(image_bgr: Image, path: str, number: int) -> str:
    """Write an image with a number in its name.

    Args:
        image_bgr: uint8 BGR array (H, W, 3).
        path: path such as ``out/result.png``; missing folders are created.
        number: 1 gives ``out/result.0001.png``.

    Returns:
        The path of the image.
    """
    base, extension = os.path.splitext(path)
    name = f"{base}.{number:04d}{extension or '.png'}"
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    if not opencv().imwrite(name, image_bgr):
        raise OSError(f"OpenCV could not write {name!r}")
    return name
