"""What a user may name, as a stream of frames: files, folders, patterns, URLs, pictures in memory, videos, cameras."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy.typing as npt

from detectron2.utils.errors import BadType, UserError
from detectron2.utils.image_io import IMAGE_SUFFIXES, READ_ERRORS
from detectron2.utils.suggest import not_there

from .inputs import ChannelOrder, is_picture, is_several, to_rgb
from .video import VIDEO_SUFFIXES, can_read_videos, read_camera, read_video

__all__ = ["Broken", "Frame", "camera_number", "expand", "find_files", "frames", "is_video", "plural_name"]

logger = logging.getLogger(__name__)

Broken = Callable[[str, int | None, Exception], None]
"""Takes the source that cannot be read, the number of the frame if it is only one of a video's, and why."""


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Attributes:
        source: path, URL, or "picture 3" for the fourth picture in memory.
        image: ``(H, W, 3)`` in RGB order.
        index: number of the frame in a video, from 0; None for pictures.
        time: seconds since the start of the video; None for pictures.
    """

    source: str
    image: npt.NDArray[Any]
    index: int | None = None
    time: float | None = None


def is_video(name: str | os.PathLike[str]) -> bool:
    """Return whether a file or URL is a video, by its ending."""
    return os.fspath(name).partition("?")[0].lower().endswith(VIDEO_SUFFIXES)


def camera_number(name: object) -> int | None:
    """Return the number of a camera named ``"camera"``, ``"camera:1"`` or ``1``; None for anything else."""
    if isinstance(name, int) and not isinstance(name, bool):
        return name
    if not isinstance(name, str):
        return None
    kind, colon, number = name.partition(":")
    if kind != "camera" or (colon and not number.isdecimal()):
        return None
    return int(number) if colon else 0


def plural_name(name: str | os.PathLike[str]) -> str:
    """Say what a name stands for if that may be several pictures: "a folder", "a video"; "" for one picture."""
    text = os.fspath(name)
    if camera_number(text) is not None:
        return "a camera"
    if _is_pattern(text):
        return "a pattern"
    if is_video(text):
        return "a video"
    return "a folder" if os.path.isdir(text) else ""


def expand(name: str | os.PathLike[str]) -> list[str]:
    """Return the files that one name stands for, sorted; URLs and cameras stand for themselves.

    Args:
        name: a file, a folder (searched through for pictures and videos), a pattern such as ``"photos/*.jpg"`` (``**``
            goes into folders), a URL, or a camera.

    Raises:
        UserError: if there is nothing of that name.
    """
    text = os.fspath(name)
    if camera_number(text) is not None or _is_url(text):
        return [text]
    text = os.path.expanduser(text)
    if os.path.isdir(text):
        return _in_folder(text)
    if not _is_pattern(text):
        if not os.path.exists(text):
            raise UserError(not_there(Path(text)))
        return [text]
    found = sorted(p for p in glob.glob(text, recursive=True) if not os.path.isdir(p))
    if not found:
        raise UserError(f"no file matches {text}")
    return found


def find_files(names: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the files of several names, see :func:`expand`."""
    return [file for name in names for file in expand(name)]


def frames(
    source: object, input_format: ChannelOrder = "BGR", broken: Broken | None = None, most: int | None = None
) -> Generator[Frame, None, None]:
    """Read everything that a source stands for, one frame at a time.

    Args:
        source: a name as in :func:`expand`, a video, a camera, a picture in memory, or an iterable of these.
        input_format: channel order of arrays and tensors, "RGB" or "BGR".
        broken: is told of what cannot be read, which is then left out; None to raise the error.
        most: frames of each video or camera, at most.

    Raises:
        UserError: if there is nothing of a given name.
        OSError, ValueError: if something cannot be read and ``broken`` is None.
    """
    count = 0
    for item in _items(source):
        if isinstance(item, (str, os.PathLike)) or camera_number(item) is not None:
            yield from _named(item, broken, most)
            continue
        name = f"picture {count}"
        count += 1
        image = _tried(name, lambda item=item: to_rgb(item, input_format), broken)  # type: ignore[misc]
        if image is not None:
            yield Frame(name, image)


def _items(source: Any) -> Iterator[Any]:
    """Names and single pictures, in whatever iterables they come."""
    if is_several(source):
        for item in source:
            yield from _items(item)
    elif is_picture(source) or camera_number(source) is not None:
        yield source
    else:
        raise BadType(
            "a source is a path, folder, pattern, URL, video, camera, picture or an iterable of these, got "
            f"{type(source).__name__}"
        )


def _named(name: str | os.PathLike[str] | int, broken: Broken | None, most: int | None) -> Iterator[Frame]:
    """Frames of everything that a name stands for."""
    camera = camera_number(name)
    if camera is not None:
        yield from _moving(f"camera:{camera}", read_camera(camera), broken, most)
        return
    assert not isinstance(name, int)
    for file in expand(name):
        if is_video(file):
            yield from _moving(file, read_video(file, _of_frames(file, broken)), broken, most)
            continue
        image = _tried(file, lambda file=file: to_rgb(file), broken)  # type: ignore[misc]
        if image is not None:
            yield Frame(file, image)


def _of_frames(file: str, broken: Broken | None) -> Callable[[int, Exception], None] | None:
    return None if broken is None else lambda index, error: broken(file, index, error)


def _moving(
    name: str,
    pictures: Generator[tuple[int, float, Any], None, None],
    broken: Broken | None,
    most: int | None,
) -> Iterator[Frame]:
    """Frames of a video or camera; one that cannot be opened, or ends by an error, is reported as a whole."""
    try:
        with closing(pictures):
            for index, time, image in islice(pictures, most):
                yield Frame(name, image, index, time)
    except (*READ_ERRORS, ValueError) as error:
        if broken is None:
            raise
        broken(name, None, error)


def _tried(name: str, read: Callable[[], npt.NDArray[Any]], broken: Broken | None) -> npt.NDArray[Any] | None:
    try:
        return read()
    except (*READ_ERRORS, ValueError) as error:
        if broken is None:
            raise
        broken(name, None, error)
        return None


def _is_url(text: str) -> bool:
    return "://" in text


def _is_pattern(text: str) -> bool:
    return not _is_url(text) and any(c in text for c in "*?[") and not os.path.exists(text)


def _in_folder(folder: str) -> list[str]:
    """Pictures and videos of a folder and the folders in it; says which other files are passed over."""
    files = sorted(p for p in Path(folder).rglob("*") if not p.is_dir())
    known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) if can_read_videos() else IMAGE_SUFFIXES
    others = Counter(p.suffix.lower() or p.name for p in files if p.suffix.lower() not in known)
    if others:
        logger.warning(
            "Passed over in %s, since `predict` takes %s: %s", folder, ", ".join(known),
            ", ".join(f"{count} {ending}" for ending, count in others.most_common()),
        )  # fmt: skip
    return [str(p) for p in files if p.suffix.lower() in known]
