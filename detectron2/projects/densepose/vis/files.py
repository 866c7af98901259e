"""Names of the pictures that the programs write."""

import os

import numpy as np

from .drawing import Image, opencv

__all__ = ["to_grey", "write_numbered"]


def to_grey(image_bgr: Image) -> Image:
    """Take the colours of an image away, so that those drawn on it stand out.

    Args:
        image_bgr: uint8 array (H, W, 3), blue first.

    Returns:
        A new array of the same shape.
    """
    return np.repeat(opencv().cvtColor(image_bgr, opencv().COLOR_BGR2GRAY)[..., None], 3, axis=2)


def write_numbered(image_bgr: Image, path: str, number: int) -> str:
    """Write a picture with a number in its name.

    Args:
        image_bgr: uint8 array (H, W, 3), blue first.
        path: such as ``out/result.png``; folders are made where they are missing.
        number: 1 gives ``out/result.0001.png``.

    Returns:
        The path of the picture.
    """
    base, extension = os.path.splitext(path)
    name = f"{base}.{number:04d}{extension or '.png'}"
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    if not opencv().imwrite(name, image_bgr):
        raise OSError(f"OpenCV could not write {name!r}")
    return name
