"""Reading videos and cameras."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.utils.errors import UserError
from detectron2.utils.file_io import PathManager

__all__ = [
    "VIDEO_SUFFIXES",
    "BrokenFrame",
    "Pictures",
    "RGBImage",
    "can_read_videos",
    "frame_count",
    "frame_rate",
    "local_path",
    "read_camera",
    "read_video",
    "require_av",
]

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts")

BrokenFrame = Callable[[int, Exception], None]
"""Takes the number of a frame that cannot be decoded, and why."""

RGBImage = npt.NDArray[np.uint8]
Pictures = Generator[tuple[int, float, RGBImage], None, None]
"""Number, time in seconds and pixels of one frame after the other."""
_USUAL_RATE = 25.0


def can_read_videos() -> bool:
    """Return whether PyAV is installed."""
    return find_spec("av") is not None


def require_av() -> ModuleType:
    """Return the module ``av``.

    Raises:
        UserError: if it is not installed; names the extra.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"videos are read and written by PyAV: pip install 'detectron2[video]' ({error})"
        ) from error
    return av


def local_path(path: str) -> str:
    """Return the file of a path or URL on this machine; it is fetched if need be."""
    return str(PathManager.get_local_path(path)) if "://" in path else path


def _open(path: str) -> Any:
    """Open a video; every error of FFmpeg becomes a ValueError that names the file."""
    av = require_av()
    try:
        container = av.open(local_path(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise ValueError(f"{path} is a video that cannot be opened: {error}") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path} is a video that holds no pictures")
    return container


def frame_count(path: str) -> int | None:
    """Return about how many frames a video has; None if it does not say."""
    with _open(path) as container:
        stream = container.streams.video[0]
        if stream.frames:
            return int(stream.frames)
        if container.duration is None or not stream.average_rate:
            return None
        return round(container.duration / 1e6 * float(stream.average_rate))


def frame_rate(path: str) -> float | None:
    """Return the frames a second that a video says it has, on average; None if it does not say."""
    with _open(path) as container:
        rate = container.streams.video[0].average_rate
        return float(rate) if rate else None


def read_video(path: str, broken: BrokenFrame | None = None) -> Pictures:
    """Decode a video frame by frame.

    Args:
        path: file.
        broken: is told of frames that cannot be decoded, or only with faults, which are then left out; None to raise
            the error.

    Yields:
        Number of the frame, from 0, its time in seconds, and its pixels ``(H, W, 3)`` in RGB order, upright. Frames
        that were left out are counted in the numbers.

    Raises:
        UserError: without PyAV.
        ValueError: if the file is no video, or a frame is broken and ``broken`` is None.
    """

    def refuse(number: int, error: Exception) -> None:
        if broken is None:
            raise ValueError(f"{path}, frame {number} cannot be decoded: {error}") from error
        broken(number, error)

    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or _USUAL_RATE)
        number = 0
        for found in _decoded(container, stream):
            if isinstance(found, Exception):
                refuse(number, found)
            elif getattr(found, "is_corrupt", False):
                refuse(number, ValueError("its data are damaged"))
            else:
                seconds = number / rate if found.time is None else float(found.time)
                yield number, seconds, _upright(found)
            number += 1


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of a stream, and in the place of broken ones the errors."""
    errors = require_av().FFmpegError
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except errors as error:  # the file breaks off
            yield error
            return
        try:
            frames = packet.decode()
        except errors as error:
            yield error
            continue
        yield from frames


def _upright(frame: Any) -> RGBImage:
    """Pixels of a frame, turned as the camera was held."""
    pixels: RGBImage = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # counter-clockwise
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def read_camera(number: int) -> Pictures:
    """Take pictures of a camera until it ends.

    Args:
        number: of the camera, from 0.

    Yields:
        As :func:`read_video`; the time counts from the first picture.

    Raises:
        UserError: without OpenCV, or if the camera cannot be opened.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(f"cameras are read by OpenCV: pip install 'detectron2[viz]' ({error})") from error
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise UserError(f"there is no camera {number}, or another program uses it")
        start = time.monotonic()
        index = 0
        while True:
            there, bgr = camera.read()
            if not there:
                logger.warning("The camera %d gives no more pictures, after %d.", number, index)
                return
            yield index, time.monotonic() - start, np.ascontiguousarray(bgr[:, :, ::-1])
            index += 1
    finally:
        camera.release()
