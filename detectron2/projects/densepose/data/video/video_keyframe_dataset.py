"""Read the key frames of videos with PyAV, the optional package ``av``."""

import csv
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from detectron2.utils.file_io import PathManager

from ..image_list_dataset import ImageTransform, checked_categories, empty_images
from ..utils import maybe_prepend_base_path

__all__ = [
    "VideoKeyframeDataset",
    "list_keyframes",
    "read_keyframe_helper_data",
    "read_keyframes",
    "video_list_from_file",
]

logger = logging.getLogger(__name__)

FrameSelector = Callable[[list[int]], list[int]]


@contextmanager
def _video_stream(video_fpath: str, stream_idx: int) -> Iterator[tuple[Any, Any]]:
    """Yield an open video and one of its streams, set to decode key frames only.

    Raises:
        OSError: the file does not exist or is not a video.
    """
    with PathManager.open(video_fpath, "rb") as file:
        try:
            import av
        except ImportError as reason:
            raise ImportError(
                "reading videos needs PyAV: pip install 'detectron2[video]', or pip install av"
            ) from reason
        try:
            with av.open(file) as container:
                if stream_idx >= len(container.streams.video):
                    raise OSError(
                        f"the file has {len(container.streams.video)} video streams, got stream_idx {stream_idx}"
                    )
                stream = container.streams.video[stream_idx]
                stream.codec_context.skip_frame = "NONKEY"
                yield container, stream
        except av.FFmpegError as reason:  # some of its subclasses are not OSErrors
            raise OSError(str(reason)) from reason


def list_keyframes(video_fpath: str, video_stream_idx: int = 0) -> list[int]:
    """List the key frames of a video.

    Args:
        video_fpath: path or URL of the video.
        video_stream_idx: number among its video streams.

    Returns:
        Presentation time stamps in the time base of the stream, in order. An unreadable or
        damaged video is logged and gives the key frames found so far.
    """
    stamps: list[int] = []
    try:
        with _video_stream(video_fpath, video_stream_idx) as (container, stream):
            for packet in container.demux(stream):  # packets are marked without decoding
                if packet.is_keyframe and packet.pts is not None:
                    stamps.append(packet.pts)
    except OSError as reason:
        logger.warning("Key frames of %s: found %d, then %s", video_fpath, len(stamps), reason)
    return stamps


def read_keyframes(video_fpath: str, keyframes: list[int], video_stream_idx: int = 0) -> list[Any]:
    """Read given key frames of a video.

    Args:
        video_fpath: path or URL of the video.
        keyframes: presentation time stamps, from :func:`list_keyframes`.
        video_stream_idx: number among its video streams.

    Returns:
        ``av.VideoFrame`` objects, one per time stamp. An unreadable or damaged video is logged and gives
        the frames read so far.
    """
    frames: list[Any] = []
    try:
        with _video_stream(video_fpath, video_stream_idx) as (container, stream):
            for stamp in keyframes:
                container.seek(stamp, any_frame=False, backward=True, stream=stream)
                frame = next((f for f in container.decode(stream) if f.pts is None or f.pts >= stamp), None)
                if frame is None:
                    raise OSError(f"the video ends before time stamp {stamp}")
                frames.append(frame)
    except OSError as reason:
        logger.warning(
            "Frames of %s: read %d of %d, then %s", video_fpath, len(frames), len(keyframes), reason
        )
    return frames


def video_list_from_file(video_list_fpath: str, base_path: str | None = None) -> list[str]:
    """Read a text file with the path of one video per line.

    Args:
        video_list_fpath: path or URL of the text file.
        base_path: folder to which paths are relative.
    """
    with PathManager.open(video_list_fpath, "r") as file:
        return [maybe_prepend_base_path(base_path, line.strip()) for line in file if line.strip()]


def read_keyframe_helper_data(fpath: str) -> dict[int, list[int]] | None:
    """Read a table of key frames, which avoids searching for them.

    The file is CSV with a header that names the columns ``video_id``, the number of the video in its list, and
    ``keyframes``, the time stamps, such as ``"[1,11,21]"``.

    Args:
        fpath: path or URL of the file.

    Returns:
        Number of the video -> time stamps; None if the file cannot be read, which is logged.
    """
    try:
        with PathManager.open(fpath, "r", newline="") as file:
            return {int(row["video_id"]): json.loads(row["keyframes"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError) as reason:
        logger.warning("Ignoring the unreadable table of key frames %s (%r)", fpath, reason)
        return None


class VideoKeyframeDataset(Dataset):
    """Key frames of videos.

    An element is a dict of ``images``, a float32 tensor (N, 3, H, W) in BGR order with values in [0, 255] of N
    frames of one video, and ``categories``, a list of N names (None if unknown). An unreadable video gives no
    images, (0, 3, 1, 1), and no categories.

    Args:
        video_list: paths or URLs.
        category_list: category of each video, or of all; None = unknown.
        frame_selector: selects from the time stamps of the key frames; None = all.
        transform: applied to each tensor of images.
        keyframe_helper_fpath: table of key frames, see :func:`read_keyframe_helper_data`.
    """

    def __init__(
        self,
        video_list: Sequence[str],
        category_list: str | Sequence[str | None] | None = None,
        frame_selector: FrameSelector | None = None,
        transform: ImageTransform | None = None,
        keyframe_helper_fpath: str | None = None,
    ) -> None:
        self.video_list = video_list
        self.category_list = checked_categories(category_list, video_list)
        self.frame_selector = frame_selector
        self.transform = transform
        self.keyframe_helper_data = (
            None if keyframe_helper_fpath is None else read_keyframe_helper_data(keyframe_helper_fpath)
        )

    def __getitem__(self, idx: int) -> dict[str, Any]:
        path = self.video_list[idx]
        known = self.keyframe_helper_data or {}
        keyframes = known[idx] if idx in known else list_keyframes(path)
        if self.frame_selector is not None:
            keyframes = self.frame_selector(keyframes)
        frames = read_keyframes(path, keyframes) if keyframes else []
        if not frames:
            return {"images": empty_images(), "categories": []}
        stacked = np.stack([frame.to_ndarray(format="bgr24") for frame in frames])
        images = torch.from_numpy(stacked).permute(0, 3, 1, 2).float()
        if self.transform is not None:
            images = self.transform(images)
        return {"images": images, "categories": [self.category_list[idx]] * len(frames)}

    def __len__(self) -> int:
        return len(self.video_list)
