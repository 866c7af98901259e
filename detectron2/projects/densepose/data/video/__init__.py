"""Key frames of videos, without annotations."""

from .frame_selector import (
    FirstKFramesSelector,
    FrameSelectionStrategy,
    LastKFramesSelector,
    RandomKFramesSelector,
)
from .video_keyframe_dataset import (
    VideoKeyframeDataset,
    list_keyframes,
    read_keyframes,
    video_list_from_file,
)

__all__ = [
    "FirstKFramesSelector",
    "FrameSelectionStrategy",
    "LastKFramesSelector",
    "RandomKFramesSelector",
    "VideoKeyframeDataset",
    "list_keyframes",
    "read_keyframes",
    "video_list_from_file",
]
