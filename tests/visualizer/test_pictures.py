"""Whole pictures of every kind against committed ones, and what must hold at any size.

After a wanted change, look at the new pictures, and commit them: ``python tests/visualizer/test_pictures.py``.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from scenes import KINDS, difference, ground, metadata, objects

from detectron2.utils.visualizer import Visualizer

FOLDER = Path(__file__).parent / "pictures"
SIZE = (150, 200)
TOLERANCE = 24  # of scenes.difference; a label that is missing or elsewhere gives more than 50


@pytest.mark.parametrize("kind", KINDS)
def test_looks_like_the_committed_picture(kind: str) -> None:
    expected = np.asarray(Image.open(FOLDER / f"{kind}.webp").convert("RGB"))
    assert difference(KINDS[kind](*SIZE).get_image(), expected) < TOLERANCE


def test_the_tolerance_sees_a_label_that_is_missing_or_elsewhere() -> None:
    def draw(*, label: bool = True, x: float = 20.0) -> np.ndarray:
        canvas = Visualizer(ground(*SIZE), metadata())
        if label:
            canvas.draw_text("dog", (x, 40), horizontal_alignment="left")
        return canvas.output.get_image()

    assert difference(draw(), draw(label=False)) > 2 * TOLERANCE
    assert difference(draw(), draw(x=60)) > 2 * TOLERANCE
    assert difference(draw(), draw(x=20.4)) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (2, 90), (64, 64), (90, 700), (450, 600)], ids=str)
def test_any_size(kind: str, size: tuple[int, int]) -> None:
    output = KINDS[kind](*size)
    assert output.get_image().shape == (*size, 3)
    taken = output.labels._taken[: output.labels._count]
    if min(size) >= 64:  # in smaller pictures one letter may be larger than all
        assert len(taken)
        assert (taken >= 0).all() and (taken[:, 2:] <= size[::-1]).all()
        assert _disjoint(taken)


@pytest.mark.parametrize("count", [40, 400])
def test_many_labels_do_not_overlap(count: int) -> None:
    output = Visualizer(ground(480, 640), metadata()).draw_instance_predictions(objects(480, 640, count))
    taken = output.labels._taken[: output.labels._count]
    assert 30 < len(taken) <= count
    assert _disjoint(taken)


def test_few_labels_are_all_written() -> None:
    output = Visualizer(ground(480, 640), metadata()).draw_instance_predictions(objects(480, 640, 20))
    assert output.labels._count == 20


def test_lines_and_letters_grow_with_the_picture() -> None:
    small, large = (Visualizer(np.zeros((side, side, 3), np.uint8)) for side in (400, 3200))
    assert large._line_width() == pytest.approx(8 * small._line_width(), rel=0.3)
    assert large._default_font_size > 4 * small._default_font_size
    assert large._line_width(20.0) < 3  # of a small object


def test_boxes_at_the_border_are_drawn_whole() -> None:
    black = np.zeros((200, 300, 3), np.uint8)
    edge = Visualizer(black).draw_box((0, 0, 300, 200), alpha=1, edge_color="w").get_image()
    width = round(Visualizer(black)._line_width())
    for side in (edge[:width], edge[-width:], edge[:, :width], edge[:, -width:]):
        assert side.mean() > 180


def _disjoint(boxes: np.ndarray) -> bool:
    a, b = boxes[:, None], boxes[None]
    common = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return int((common > 0).all(axis=2).sum()) == len(boxes)  # each only with itself


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for kind, draw in KINDS.items():
        Image.fromarray(draw(*SIZE).get_image()).save(FOLDER / f"{kind}.webp", quality=85, method=6)


if __name__ == "__main__":
    write()
