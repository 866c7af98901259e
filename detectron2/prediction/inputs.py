"""One picture in any form, as an RGB array."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from detectron2.utils.errors import BadType, BadValue
from detectron2.utils.image_io import check_pixel_values, convert_PIL_to_numpy, read_image

__all__ = ["ChannelOrder", "Picture", "check_order", "is_picture", "is_several", "to_rgb"]

logger = logging.getLogger(__name__)

Picture = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any] | torch.Tensor
"""A path or URL, the bytes of an image file, a Pillow image, an array ``(H, W[, C])`` or a tensor ``(C, H, W)``."""

ChannelOrder = str
_CHANNELS = (1, 2, 3, 4)  # grey, grey with alpha, colour, colour with alpha
_BEYOND = 32  # what sharp filters may add to the values of a picture
# Libraries whose arrays and tensors are always RGB, by the first part of the type's module.
_RGB_LIBRARIES = ("imageio", "torchvision")


def check_order(input_format: str) -> str:
    """Return the channel order, if it is one.

    Raises:
        ValueError: if it is neither "RGB" nor "BGR".
    """
    if input_format not in ("RGB", "BGR"):
        raise BadValue(
            f"input_format, the channel order of arrays and tensors, must be 'RGB' or 'BGR', got {input_format!r}"
        )
    return input_format


def is_picture(value: object) -> bool:
    """Return whether a value is one picture, or a name, by its type."""
    known = (str, os.PathLike, bytes, bytearray, Image.Image, np.ndarray, torch.Tensor)
    return isinstance(value, known) and not is_several(value)


def is_several(value: object) -> bool:
    """Return whether a value is an iterable of pictures or names, or a stack of pictures."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return value.ndim > 3 or (value.ndim > 0 and value.dtype == object)
    single = (str, os.PathLike, bytes, bytearray, Image.Image, Mapping)
    return isinstance(value, Iterable) and not isinstance(value, single)


def to_rgb(picture: Picture, input_format: ChannelOrder = "BGR") -> npt.NDArray[Any]:
    """Convert one picture to an array ``(H, W, 3)`` in RGB order, with values in [0, 255].

    Files, bytes and Pillow images know their own colours: grey, palette, CMYK and 16-bit pictures become 8-bit RGB,
    transparency is dropped, of an animation the first picture is taken, and a turned photograph is set upright.

    Args:
        picture: a path or URL, the bytes of an image file, a Pillow image, an array ``(H, W)`` or ``(H, W, C)``, or a
            tensor ``(H, W)`` or ``(C, H, W)``, with C one of 1 (grey), 2 (grey, alpha), 3 and 4 (colours, alpha).
        input_format: channel order of arrays and tensors, "RGB" or "BGR".

    Returns:
        uint8 array for files, bytes and Pillow images; of the given dtype for arrays and tensors.

    Raises:
        TypeError: if it is nothing of these.
        ValueError: if an array has another shape, no pixels, or values that no picture has.
        OSError: if a file cannot be read.
    """
    if isinstance(picture, (str, os.PathLike)):
        return read_image(os.fspath(picture), "RGB")
    if isinstance(picture, (bytes, bytearray)):
        return read_image(io.BytesIO(picture), "RGB")
    if isinstance(picture, Image.Image):
        return _of_pillow(picture)
    if isinstance(picture, torch.Tensor):
        array = picture.detach().cpu()
        array = array.float() if array.dtype in (torch.bfloat16, torch.float16) else array
        array = array if array.ndim != 3 else array.permute(1, 2, 0)
        form = "a tensor must be (channels, height, width) or (height, width)"
        return _of_array(array.numpy(), input_format, form, picture)
    if not hasattr(picture, "__array__"):
        raise BadType(
            "a picture is a path, URL, bytes, Pillow image, array or tensor, got "
            f"{type(picture).__name__}; predictor.stream(...) takes cameras, folders and videos"
        )
    form = "an array must be (height, width, channels) or (height, width)"
    return _of_array(np.asarray(picture), input_format, form, picture)


def _of_pillow(image: Image.Image) -> npt.NDArray[np.uint8]:
    upright = ImageOps.exif_transpose(image)
    if not (upright.width and upright.height):
        raise BadValue(f"an image must have pixels, got one of {upright.width} x {upright.height}")
    return convert_PIL_to_numpy(upright, "RGB")


def _of_array(array: npt.NDArray[Any], order: ChannelOrder, form: str, given: Any) -> npt.NDArray[Any]:
    """Bring an array ``(H, W)`` or ``(H, W, C)`` to three channels in RGB order."""
    shape = tuple(np.shape(given))
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not array.size or array.shape[2] not in _CHANNELS:
        hint = ""
        if len(shape) == 3 and not isinstance(given, torch.Tensor) and shape[0] in _CHANNELS:
            hint = "; it looks like (channels, height, width): use array.transpose(1, 2, 0)"
        elif len(shape) == 3 and isinstance(given, torch.Tensor) and shape[2] in _CHANNELS:
            hint = "; it looks like (height, width, channels): use tensor.permute(2, 0, 1)"
        raise BadValue(f"{form}, with pixels and 1 to 4 channels, got shape {shape}{hint}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    check_pixel_values(array)
    _warn_of_odd_values(array, order, given)
    if array.shape[2] in (1, 2):
        return np.repeat(array[:, :, :1], 3, axis=2)
    return array[:, :, :3] if order == "RGB" else array[:, :, 2::-1]


def _warn_of_odd_values(array: npt.NDArray[Any], order: ChannelOrder, given: object) -> None:
    """Warn of what can be seen to be wrong: another scale of values, or the channel order of another library."""
    library = type(given).__module__.partition(".")[0]
    if order == "BGR" and array.shape[2] >= 3 and library in _RGB_LIBRARIES:
        logger.warning(
            "A picture is an %s of %s, whose channels are RGB, but input_format is 'BGR': give input_format='RGB'.",
            type(given).__name__, library,
        )  # fmt: skip
    if array.dtype.kind == "f" and (array.min() < -_BEYOND or array.max() > 255 + _BEYOND):
        logger.warning(
            "A picture has values from %.4g to %.4g; values in [0, 255] are expected.",
            array.min(),
            array.max(),
        )
    if array.dtype.kind == "f" and array.size > 1 and 0 < array.max() <= 1 and array.min() >= 0:
        logger.warning(
            "A picture has floating-point values up to %.3g; values in [0, 255] are expected. Multiply by 255?",
            array.max(),
        )
