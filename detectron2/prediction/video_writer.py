"""Writing videos that keep the time stamps and the sound of those that they were made from."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from detectron2.utils.errors import UserError

from .video import RGBImage, local_path, require_av

__all__ = ["VideoWriter", "check_can_write", "video_ending"]

logger = logging.getLogger(__name__)

_CLOCK = Fraction(1, 60000)  # seconds; divides the frame times of all usual rates, and MPEG-4 can count it
_CODECS = ("libx264", "h264", "mpeg4")
_LIKE_MP4 = (".mp4", ".m4v", ".mov")
_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}
_USUAL_RATE = Fraction(25)


def video_ending(source: str) -> str:
    """Return the ending of a video made from another: ``.mp4`` where its sound fits in, else ``.mkv``, which takes any."""
    ending = os.path.splitext(source.partition("?")[0])[1].lower()
    return ".mp4" if ending in _LIKE_MP4 or not ending else ".mkv"


def check_can_write(path: str | os.PathLike[str]) -> None:
    """See that a video can be written, before anything is computed for it.

    Raises:
        UserError: without PyAV or a codec, for an unknown ending, or if the folder cannot be written to.
    """
    _codec()
    target = Path(path)
    if target.suffix.lower() not in _FORMATS:
        raise UserError(f"{target}: a video that is written must end in {', '.join(_FORMATS)}")
    if target.is_dir():
        raise UserError(f"{target} is a folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial(target)
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error}") from error


def _codec() -> str:
    """Return the first codec that this FFmpeg can write with."""
    av = require_av()
    for name in _CODECS:
        try:
            av.Codec(name, "w")
        except (ValueError, av.FFmpegError):
            continue
        return name
    raise UserError(f"this PyAV can write with none of the codecs {', '.join(_CODECS)}")


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


class VideoWriter:
    """Writes frames, one at a time; the file has its name only when it is whole.

    Args:
        path: file to write, ``.mp4``, ``.m4v``, ``.mov``, ``.mkv`` or ``.avi``.
        sound_of: video whose sound is copied, up to the end of the last frame; None for none.
        rate: frames a second, as the file says; the time stamps are those of the frames.

    Attributes:
        num_frames: frames written.
        has_sound: whether sound is copied.

    Raises:
        UserError: see :func:`check_can_write`.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, sound_of: str | None = None, rate: float | None = None
    ) -> None:
        check_can_write(path)
        self.path = Path(path)
        self.num_frames = 0
        self._rate = _USUAL_RATE if not rate else Fraction(rate).limit_denominator(1001)
        self._partial = _partial(self.path)
        kind = _FORMATS[self.path.suffix.lower()]
        self._container = require_av().open(str(self._partial), "w", format=kind)
        self._stream: Any = None
        self._last = -1
        self._sound = None if sound_of is None else _Sound.of(sound_of, self._container)

    @property
    def has_sound(self) -> bool:
        """Whether sound is copied."""
        return self._sound is not None

    def write(self, image: RGBImage, time: float) -> None:
        """Add a frame.

        Args:
            image: ``(H, W, 3)`` in RGB order; resized to the size of the first one.
            time: seconds since the start; must grow, else the frame is put right behind the one before.
        """
        even = _even(image)
        if self._stream is None:
            self._start(even)
        height, width = self._stream.height, self._stream.width
        if even.shape[:2] != (height, width):
            even = np.asarray(Image.fromarray(even).resize((width, height)))
        frame = require_av().VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        self._last = max(round(time / _CLOCK), self._last + 1)
        frame.pts, frame.time_base = self._last, _CLOCK
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        if self._sound is not None:
            self._sound.copy_until(time)
        self.num_frames += 1

    def _start(self, image: RGBImage) -> None:
        """Choose size and codec; streams cannot be added once packets are written."""
        self._stream = self._container.add_stream(_codec(), rate=self._rate)
        self._stream.height, self._stream.width = image.shape[:2]
        self._stream.pix_fmt = "yuv420p"  # what every player can show
        self._stream.codec_context.time_base = _CLOCK
        if self._stream.codec_context.name == "libx264":
            self._stream.codec_context.options = {"crf": "20", "preset": "veryfast"}
        elif self._stream.codec_context.name == "mpeg4":
            self._stream.bit_rate = max(image.shape[0] * image.shape[1] * 4, 400_000)
        if self._sound is not None:
            self._sound.start()

    def close(self) -> None:
        """Finish the file; without a frame there is none."""
        if self._stream is not None:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
        if self._sound is not None:
            if self._stream is not None:
                self._sound.copy_until(float(self._last * _CLOCK + 1 / self._rate))
            self._sound.close()
        self._container.close()
        if self.num_frames:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Sound:
    """Packets of sound on their way from one file to another, without being decoded."""

    def __init__(self, source: Any, target: Any) -> None:
        self._source, self._target = source, target
        # A coder's first block lies before the start. Where that cannot be written, all else would be shifted.
        self._before_zero = target.format.name in ("mp4", "mov")
        self._stream: Any = None
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None

    @classmethod
    def of(cls, path: str, target: Any) -> _Sound | None:
        """Open the sound of a video; None if it has none."""
        av = require_av()
        try:
            source = av.open(local_path(path), metadata_errors="replace")
        except av.FFmpegError:
            return None
        if not source.streams.audio:
            source.close()
            return None
        return cls(source, target)

    def start(self) -> None:
        """Add the stream to the target; it is left out, with a warning, where the target cannot hold it."""
        audio = self._source.streams.audio[0]
        try:
            self._stream = self._target.add_stream_from_template(audio)
        except (ValueError, require_av().FFmpegError) as error:
            logger.warning("The sound is left out, since it does not fit into the new video: %s", error)
            return
        self._packets = self._source.demux(audio)

    def copy_until(self, time: float) -> None:
        """Copy the packets that begin before a time in seconds."""
        errors = require_av().FFmpegError
        while self._stream is not None:
            if self._next is None:
                try:
                    self._next = next(self._packets, None)
                except errors:  # the file breaks off
                    self._next = None
                if self._next is None:
                    self._stream = None
                    return
            packet = self._next
            if packet.dts is None or (packet.dts < 0 and not self._before_zero):  # the first marks the end
                self._next = None
                continue
            if packet.dts * packet.time_base >= time:
                return
            packet.stream = self._stream
            self._target.mux(packet)
            self._next = None

    def close(self) -> None:
        """Close the file that is read."""
        self._source.close()


def _even(image: RGBImage) -> RGBImage:
    """Repeat the last row or column of a picture of odd size, which codecs do not take."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
