"""Pictures from strangers: looked at before they are decoded, and refused if they are too large or none."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy.typing as npt
from PIL import Image

from detectron2.prediction.inputs import to_rgb
from detectron2.utils.image_io import READ_ERRORS

__all__ = ["PictureError", "decode"]


class PictureError(ValueError):
    """A picture that the service does not take.

    Attributes:
        status: HTTP status: 413 too large, 415 no picture of a known format, 422 damaged.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def decode(data: bytes, max_pixels: int) -> npt.NDArray[Any]:
    """Decode the bytes of an image file to ``(H, W, 3)`` in RGB order.

    Args:
        data: of the file.
        max_pixels: most pixels, checked from the file's header alone.

    Raises:
        PictureError: if that is not possible; its text is meant for the client.
    """
    if not data:
        raise PictureError(422, "the request has no picture")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound stands below
        try:
            with Image.open(io.BytesIO(data)) as header:
                width, height = header.size
        except Image.DecompressionBombError:
            raise PictureError(413, f"the picture has more than {max_pixels} pixels") from None
        except Exception:  # of decoders, whatever they meet in a file made to break them
            raise PictureError(
                415, "the request's body is not a picture in a format that can be read"
            ) from None
        if width * height > max_pixels:
            raise PictureError(
                413, f"the picture has {width} x {height} pixels; at most {max_pixels} are taken"
            )
        try:
            return to_rgb(data)
        except (*READ_ERRORS, ValueError) as error:
            raise PictureError(422, f"the picture cannot be read: {error}") from None
