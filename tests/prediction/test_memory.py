"""Memory does not grow with the length of a stream."""

import gc
import os
import weakref
from pathlib import Path

import numpy as np
import pytest

from detectron2.data import Metadata
from detectron2.prediction import Predictor
from detectron2.prediction.backends import Prepared

from .films import film


class Nothing:
    """A model that finds nothing, at once."""

    metadata = Metadata()
    input_format = "RGB"

    def prepare(self, rgb):
        return Prepared(rgb, rgb.shape)

    def run(self, batch, scores=None):
        return [{} for _ in batch]


def process_memory() -> int:
    """Bytes that this process holds."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("only Linux says how much memory a process has")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watched(np.ndarray):
    """An array that can be watched."""


@pytest.mark.parametrize("batch_size", [1, 8])
def test_few_pictures_are_alive_at_a_time(tiny_cfg, batch_size):
    predictor = Predictor(tiny_cfg, batch_size=batch_size, input_format="RGB")
    predictor.backend = Nothing()
    alive: dict[int, weakref.ref] = {}
    most = 0

    def pictures():
        for k in range(2000):
            one = np.zeros((8, 8 + k % 3, 3), np.uint8).view(Watched)
            alive[k] = weakref.ref(one, lambda _, k=k: alive.pop(k))
            yield one

    seen = 0
    for _ in predictor.stream(pictures()):
        seen += 1
        most = max(most, len(alive))
    assert seen == 2000 and most <= 4 * batch_size + 2 * batch_size + 8


@pytest.mark.slow
def test_two_thousand_frames_of_a_video_take_no_more_memory_than_some(tiny_file: Path, tmp_path: Path):
    clip = film(tmp_path / "long.mp4", [k / 25 for k in range(2000)])
    predictor = Predictor(tiny_file, device="cpu", scores=None, batch_size=4)
    sizes = []
    with predictor.stream(clip) as stream:
        for found in stream:
            if found.frame is not None and found.frame % 500 == 499:
                gc.collect()
                sizes.append(process_memory())
    assert len(sizes) == 4 and max(sizes[1:]) - sizes[0] < 40e6, [f"{s / 1e6:.0f} MB" for s in sizes]
