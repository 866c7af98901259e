"""Batches of images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron2.structures import ImageList

sizes = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from([0, 1, 4, 7]), st.sampled_from([0.0, 2.5]))
def test_round_trip(shapes: list[tuple[int, int]], divisibility: int, value: float) -> None:
    images = [torch.rand(2, *s) + 5 for s in shapes]
    batch = ImageList.from_tensors(images, divisibility, pad_value=value)
    assert batch.image_sizes == shapes
    assert all(torch.equal(batch[i], image) for i, image in enumerate(images))
    height, width = batch.tensor.shape[-2:]
    step = max(divisibility, 1)
    assert height % step == 0 and width % step == 0
    assert height - max(h for h, _ in shapes) < step
    assert width - max(w for _, w in shapes) < step
    padding = sum(height * width - h * w for h, w in shapes) * 2
    assert int((batch.tensor == value).sum()) == padding


def test_square() -> None:
    images = [torch.ones(3, 4, 9), torch.ones(3, 6, 5)]
    assert ImageList.from_tensors(images, padding_constraints={"square_size": 16}).tensor.shape == (
        2,
        3,
        16,
        16,
    )
    both = {"square_size": 10, "size_divisibility": 8}
    assert ImageList.from_tensors(images, 32, padding_constraints=both).tensor.shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="square_size=8"):
        ImageList.from_tensors(images, padding_constraints={"square_size": 8})


def test_padded_size() -> None:
    assert ImageList.padded_size([(4, 9), (6, 5)]) == (6, 9)
    assert ImageList.padded_size([(4, 9), (6, 5)], 4) == (8, 12)
    assert ImageList.padded_size([(4, 9)], 32, {"size_divisibility": 4}) == (
        4,
        12,
    )  # it replaces the argument
    assert ImageList.padded_size([(4, 9)], 0, {"square_size": 10, "size_divisibility": 8}) == (16, 16)
    assert ImageList.padded_size([(16, 3)], 0, {"square_size": 10, "size_divisibility": 8}) == (16, 16)
    with pytest.raises(ValueError, match=r"\(4, 17\).*square_size=10"):
        ImageList.padded_size([(4, 9), (3, 17)], 8, {"square_size": 10})


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ImageList.from_tensors([])
    with pytest.raises(ValueError, match="agree"):
        ImageList.from_tensors([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)])
    with pytest.raises(TypeError, match="list or tuple"):
        ImageList.from_tensors(torch.zeros(2, 3, 4, 4))


def test_to() -> None:
    batch = ImageList.from_tensors([torch.ones(3, 4, 9)]).to(torch.float64)
    assert batch.tensor.dtype == torch.float64
    assert batch.device.type == "cpu"
    assert len(batch) == 1
