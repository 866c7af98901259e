"""Which frames of a video are used."""

import random
from enum import Enum

__all__ = ["FirstKFramesSelector", "FrameSelectionStrategy", "LastKFramesSelector", "RandomKFramesSelector"]


class FrameSelectionStrategy(Enum):
    """Ways to select frames, as configs name them."""

    RANDOM_K = "random_k"
    FIRST_K = "first_k"
    LAST_K = "last_k"
    ALL = "all"


class RandomKFramesSelector:
    """Select frames at random, each at most once; they stay in the order of time.

    Args:
        k: number of frames; a video that has no more gives all.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, frame_tss: list[int]) -> list[int]:
        """Select from the time stamps of a video's frames."""
        chosen = random.sample(range(len(frame_tss)), min(self.k, len(frame_tss)))
        return [frame_tss[i] for i in sorted(chosen)]


class FirstKFramesSelector:
    """Select the first frames.

    Args:
        k: number of frames; a video that has no more gives all.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, frame_tss: list[int]) -> list[int]:
        """Select from the time stamps of a video's frames."""
        return frame_tss[: self.k]


class LastKFramesSelector:
    """Select the last frames.

    Args:
        k: number of frames; a video that has no more gives all.
    """

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, frame_tss: list[int]) -> list[int]:
        """Select from the time stamps of a video's frames."""
        return frame_tss[max(len(frame_tss) - self.k, 0) :]
