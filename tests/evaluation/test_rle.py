"""Fast run-length encoding against pycocotools' own."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron2.structures.rle import encode_masks


def slow(masks):
    return [mask_util.encode(np.asfortranarray(m.astype(np.uint8)))["counts"] for m in masks]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    st.integers(0, 10**6),
)
def test_equals_pycocotools(n, h, w, density, seed):
    masks = np.random.default_rng(seed).random((n, h, w)) < density
    encoded = encode_masks(masks)
    assert encoded.counts == slow(masks)
    np.testing.assert_array_equal(encoded.areas, masks.sum(axis=(1, 2)))
    assert encoded.size == (h, w)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_boxes_are_only_a_hint(seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 12, 15)) < 0.3
    boxes = np.sort(rng.uniform(-5, 20, (3, 2, 2)), axis=1).reshape(3, 4)
    assert encode_masks(masks, boxes).counts == slow(masks)


@pytest.mark.parametrize("size", [(3, 5000), (700, 900)], ids=["wide", "large"])
def test_long_runs(size):
    masks = np.zeros((2, *size), dtype=bool)
    masks[0, :, size[1] // 2 :] = True
    masks[1, 1:2] = True
    assert encode_masks(masks).counts == slow(masks)


@pytest.mark.parametrize(
    "box", [[np.nan, 0, 1, 1], [5, 5, 2, 2], [0, 0, np.inf, 3]], ids=["nan", "inverted", "inf"]
)
def test_useless_boxes(box):
    masks = np.zeros((1, 6, 7), dtype=bool)
    masks[0, 2:4, 3:5] = True
    assert encode_masks(masks, np.array([box], dtype=float)).counts == slow(masks)


def test_nothing():
    assert encode_masks(np.zeros((0, 4, 4), dtype=bool)).counts == []
    assert len(encode_masks(np.zeros((2, 0, 4), dtype=bool)).counts) == 2
