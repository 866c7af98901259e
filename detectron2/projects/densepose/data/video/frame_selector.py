"""Select frames of a video."""

import random
from enum import Enum

__all__ = ["FirstKFramesSelector", "FrameSelectionStrategy", "LastKFramesSelector", "RandomKFramesSelector"]


class FrameSelectionStrategy(Enum):
    """Ways to select frames, by their names in configs."""

    RANDOM_K = "random_k"
    FIRST_K = "first_k"
    LAST_K = "last_k"
    ALL = "all"


class RandomKFramesSelector:
    """Select distinct frames at random, in temporal order.

    Args:
        k: number of frames; a video with fewer frames gives all.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, frame_tss: list[int]) -> list[int]:
        """Select from the time stamps of the frames of a video."""
        chosen = random.sample(range(len(frame_tss)), min(self.k, len(frame_tss)))
        return [frame_tss[i] for i in sorted(chosen)]


class FirstKFramesSelector:
    """Select the first frames.

    Args:
        k: number of frames; a video with fewer frames gives all.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, frame_tss: list[int]) -> list[int]:
        """Select from the time stamps of the frames of a video."""
        return frame_tss[: self.k]


class LastKFramesSelector:
    """Select the last frames.

    Args:
        k: number of frames; a video with fewer frames gives all.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, frame_tss: list[int]) -> list[int]:
        """Select from the time stamps of the frames of a video."""
        return frame_tss[max(len(frame_tss) - self.k, 0) :]
