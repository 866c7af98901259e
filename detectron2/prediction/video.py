"""Reading videos and cameras."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.utils.errors import UserError

__all__ = ["VIDEO_SUFFIXES", "BrokenFrame", "read_camera", "read_video", "require_av"]

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")

BrokenFrame = Callable[[int, Exception], None]
"""Takes the position of a frame that cannot be decoded, and why."""

RGBImage = npt.NDArray[np.uint8]


def require_av() -> Any:
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


def read_video(path: str, broken: BrokenFrame | None = None) -> Iterator[tuple[int, float, RGBImage]]:
    """Decode a video frame by frame.

    Args:
        path: file.
        broken: is told of frames that cannot be decoded, which are then left out; None to raise the error.

    Yields:
        Number of the frame, from 0, its time in seconds, and its pixels ``(H, W, 3)`` in RGB order, upright.

    Raises:
        UserError: without PyAV.
        OSError, ValueError: if the file is no video, or a frame is broken and ``broken`` is None.
    """
    av = require_av()
    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError(f"{path} holds no pictures")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        index = 0
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.FFmpegError as error:
                if broken is None:
                    raise ValueError(f"{path}: frame {index} cannot be decoded ({error})") from error
                broken(index, error)
                index += 1
                continue
            for frame in decoded:
                time = frame.time if frame.time is not None else index / float(stream.average_rate or 25)
                yield index, time, frame.to_ndarray(format="rgb24")
                index += 1


def read_camera(number: int) -> Iterator[tuple[int, float, RGBImage]]:
    """Take pictures of a camera until it ends.

    Args:
        number: of the camera, from 0.

    Yields:
        As :func:`read_video`; the time counts from the first picture.

    Raises:
        UserError: without OpenCV, or if the camera cannot be opened.
    """
    import time

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
