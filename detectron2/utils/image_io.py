"""Read images and label maps, and convert between colour formats."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from .file_io import PathManager

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "IMAGE_SUFFIXES",
    "READ_ERRORS",
    "_M_RGB2YUV",
    "_M_YUV2RGB",
    "_apply_exif_orientation",
    "check_pixel_values",
    "convert_PIL_to_numpy",
    "convert_image_to_rgb",
    "exif_orientation",
    "image_size",
    "is_turned",
    "read_image",
    "read_label_map",
]

# Suffixes of images when a folder is searched, the usual ones first.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".avif", ".jfif", ".ppm", ".pgm",
)  # fmt: skip

# Errors of files that are missing, truncated or not images. Errors of the code (KeyError, TypeError, ...) are not
# included: they would affect every image and must show.
READ_ERRORS = (OSError, EOFError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError)

# ITU-R BT.601, analogue form, from and to R, G, B in [0, 1].
_M_RGB2YUV = [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
_M_YUV2RGB = [[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]]

_YUV = "YUV-BT.601"
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B")  # Pillow's modes with more than 8 bits
_EXIF_ORIENTATION = 0x0112
_EXIF_FIX = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image; 1 means upright, and stands for a tag that cannot be read too."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # broken metadata of any kind must not cost the image
        return 1


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Rotate and mirror an image by its EXIF tag; return it unchanged without a readable tag."""
    fix = _EXIF_FIX.get(exif_orientation(image))
    return image if fix is None else image.transpose(fix)


def _to_8_bit(image: Image.Image, target: str) -> Image.Image:
    """Convert images of more than 8 bits to 8; Pillow would clip them at 255."""
    if image.mode.startswith("I;16"):  # keep the upper byte
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        low, high = image.getextrema()
        if low < 0 or high > 255:  # type: ignore[operator]
            raise ValueError(
                f"the image has values from {low} to {high}, which do not fit into the 8 bits of format {target!r}; "
                "read it with format None (INPUT.FORMAT '') and scale it in the mapper"
            )
    return image


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Convert a Pillow image to an array.

    Args:
        image: any Pillow image.
        format: "BGR", "YUV-BT.601", or a mode of Pillow such as "RGB" or "L"; None or "" to keep the image's own
            mode, number of channels and bit depth.

    Returns:
        uint8 array (H, W, C) for "BGR" and Pillow's modes of several channels, (H, W, 1) for "L", (H, W) for "P";
        bool (H, W) for "1"; uint16, int32 or float32 (H, W) for the deep modes "I;16", "I" and "F"; float64 (H, W, 3)
        for "YUV-BT.601", with Y in [0, 1]; for None an array (H, W) or (H, W, C) of the image's own dtype.
    """
    if not format:
        return np.array(image)
    mode = "RGB" if format in ("BGR", _YUV) else format
    if mode not in _DEEP_MODES:
        image = _to_8_bit(image, format)
    if image.mode != mode:
        image = image.convert(mode)
    if format == "BGR":
        # Pillow reorders the channels while copying, which is faster than in NumPy.
        packed = bytearray(image.tobytes("raw", "BGR"))
        return np.frombuffer(packed, np.uint8).reshape(image.height, image.width, 3)
    array = np.array(image)
    if format == _YUV:
        return (array / 255.0) @ np.asarray(_M_RGB2YUV).T
    return array[:, :, None] if format == "L" else array


def convert_image_to_rgb(image: np.ndarray | Tensor, format: str | None) -> np.ndarray:
    """Convert an image back to RGB, for drawing.

    Args:
        image: array or tensor (H, W, C) in the given format.
        format: as in :func:`read_image`.

    Returns:
        Array (H, W, 3) in [0, 255]: float64 for "YUV-BT.601", as given for "BGR", uint8 for all others.
    """
    array = image if isinstance(image, np.ndarray) else image.detach().cpu().numpy()
    if format == "BGR":
        return array[:, :, ::-1]
    if format == _YUV:
        return (array @ np.asarray(_M_YUV2RGB).T) * 255.0
    if format not in _DEEP_MODES:  # truncates floating-point values
        array = np.clip(array, 0, 255).astype(np.uint8)
    if format == "RGB":
        return array
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    picture = Image.fromarray(array)
    if format and picture.mode != format:  # YCbCr and LAB arrays look like RGB
        picture = Image.frombytes(format, picture.size, np.ascontiguousarray(array).tobytes())
    return np.array(picture.convert("RGB"))


def _bytes_of(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file of bytes; raise an error for a named pipe, from which reading could block forever."""
    name = os.fspath(path)
    if not name.startswith("/dev/") and os.path.exists(name) and stat.S_ISFIFO(os.stat(name).st_mode):
        raise OSError(f"{name} is a named pipe, not a file")
    return cast("BinaryIO", PathManager.open(name, "rb"))


def _open(source: str | BinaryIO) -> tuple[Image.Image | None, np.ndarray | None]:
    """Return the Pillow image of a file, or the array of a ``.npy`` file."""
    with _bytes_of(source) if isinstance(source, (str, os.PathLike)) else source as f:
        if str(source).endswith(".npy"):
            array = np.load(f, allow_pickle=False)
            if array.ndim not in (2, 3):
                raise ValueError(f"{source} must contain an array (H, W) or (H, W, C), got {array.shape}")
            return None, array
        name = source if isinstance(source, (str, os.PathLike)) else "a file"
        try:
            image = _identified(f, name)
            image.load()
        except UnidentifiedImageError:
            raise
        except (OSError, EOFError, SyntaxError) as error:
            raise OSError(f"{name} is damaged: {error}") from error
        return _apply_exif_orientation(image), None


def _identified(f: BinaryIO, name: str | os.PathLike[str]) -> Image.Image:
    """Open an image; an error names the file as its user does, and says if it is empty."""
    try:
        return Image.open(f)
    except Image.DecompressionBombError as error:
        tiles = "`--tile` on the command line and `TiledPredictor` in Python read images of any size."
        raise Image.DecompressionBombError(f"{name}: {error} {tiles}") from None
    except UnidentifiedImageError:
        f.seek(0, os.SEEK_END)
        what = (
            "an image of a known format, or is damaged at its start" if f.tell() else "an image: it is empty"
        )
        raise UnidentifiedImageError(f"{name} is not {what}") from None


def read_image(file_name: str | BinaryIO, format: str | None = None) -> np.ndarray:
    """Read an image, rotated upright by its EXIF tag.

    ``.npy`` files may have any number of channels and any dtype, and are returned as stored, (H, W, C).

    Args:
        file_name: path or URL, or a file open for reading bytes, which is then closed.
        format: "BGR", "YUV-BT.601", or a mode of Pillow such as "RGB" or "L"; None or "" for the file's own
            mode and bit depth.

    Returns:
        An array as from :func:`convert_PIL_to_numpy`: uint8 (H, W, C) in [0, 255] for the usual formats.
    """
    image, array = _open(file_name)
    if image is None:
        assert array is not None
        return array[:, :, None] if array.ndim == 2 and format else array
    return convert_PIL_to_numpy(image, format)


def read_label_map(file_name: str) -> np.ndarray:
    """Read a map of class numbers: 8-bit, 16-bit, 32-bit or palette PNG, TIFF, or ``.npy``.

    The numbers are returned as stored: palette colours are ignored, and 16 bits are not reduced to 8.

    Returns:
        Integer array (H, W).

    Raises:
        ValueError: if the file contains colours.
    """
    image, array = _open(file_name)
    labels = np.array(image) if image is not None else array
    assert labels is not None
    if labels.ndim == 3 and labels.shape[2] <= 4 and (labels[:, :, :1] == labels[:, :, :3]).all():
        labels = labels[:, :, 0]  # greyscale stored as colour
    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        raise ValueError(
            f"{file_name} must have one integer per pixel, got an array of shape {labels.shape} and type "
            f"{labels.dtype}; convert colours to class numbers first"
        )
    return labels.astype(np.uint8) if labels.dtype == np.bool_ else labels


def check_pixel_values(array: np.ndarray) -> None:
    """Raise an error if an array has values that no image with 8 bits per channel has."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("an image has values that are not finite (NaN or infinite)")
    if array.dtype.kind in "iu" and array.dtype != np.uint8 and (array.min() < 0 or array.max() > 255):
        raise ValueError(
            f"an image must have values in [0, 255], got {array.dtype} from {array.min()} to {array.max()}; "
            "divide 16-bit images by 256"
        )


def image_size(file_name: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (height, width) of a picture, upright according to its EXIF tag, without decoding its pixels."""
    with _bytes_of(file_name) as f:
        image: Any = Image.open(f)
        width, height = image.size
        return (width, height) if is_turned(image) else (height, width)


def is_turned(image: Image.Image) -> bool:
    """Return whether the EXIF tag of an image swaps its width and height."""
    return exif_orientation(image) in (5, 6, 7, 8)
