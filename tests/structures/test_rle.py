"""Run-length encoding against pycocotools' own, and what damaged or hostile masks do."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron2.structures.rle import decode, encode, encode_masks, mask_box, run_lengths, to_mask, to_rle


def slow(masks):
    return [mask_util.encode(np.asfortranarray(m.astype(np.uint8)))["counts"] for m in masks]


@settings(max_examples=100, deadline=None)
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


# ---- decoding, and any segmentation


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.integers(0, 10**6)
)
def test_decoding_inverts_encoding(h, w, density, seed):
    mask = np.random.default_rng(seed).random((h, w)) < density
    rle = encode(mask)
    for counts in (rle["counts"], rle["counts"].encode(), run_lengths(rle).tolist(), run_lengths(rle)):
        np.testing.assert_array_equal(decode({"size": [h, w], "counts": counts}), mask)
    assert run_lengths(rle)[1::2].sum() == mask.sum()
    if h and w:
        assert mask_box(mask) == mask_util.toBbox({**rle, "counts": rle["counts"].encode()}).tolist()


def test_long_runs_are_decoded():
    mask = np.zeros((3000, 4000), dtype=bool)
    mask[5:2990, 7:3990] = True
    mask[::17, 11] = False
    np.testing.assert_array_equal(decode(encode(mask)), mask)


def test_pixels_behind_the_last_run_are_background():
    np.testing.assert_array_equal(decode({"size": [2, 3], "counts": [1, 2]}), [[0, 1, 0], [1, 0, 0]])
    assert not decode({"size": [2, 3], "counts": ""}).any()


DAMAGED = {
    "too long": {"size": [3, 4], "counts": [2, 50]},
    "negative": {"size": [3, 4], "counts": [-2, 14]},
    "fractions": {"size": [3, 4], "counts": [1.5, 2]},
    "nested": {"size": [3, 4], "counts": [[1, 2]]},
    "words": {"size": [3, 4], "counts": ["one", "two"]},
    "nothing": {"size": [3, 4], "counts": None},
    "text too long": {"size": [3, 4], "counts": "2<"},
    "text that goes back": {"size": [3, 4], "counts": "2d"},
    "text cut off": {"size": [3, 4], "counts": "2`"},
    "text of other letters": {"size": [3, 4], "counts": "2 \u00e9"},
    "endless number": {"size": [3, 4], "counts": "o" * 30 + "0"},
    "no size": {"counts": "0"},
    "size of one": {"size": [3], "counts": "0"},
    "negative size": {"size": [-3, 4], "counts": "0"},
    "size in words": {"size": ["a", "b"], "counts": "0"},
    "larger than memory": {"size": [200000, 200000], "counts": [0, 200000**2]},
    "sum overflows": {"size": [3, 4], "counts": [2**62, 2**62, 2**62, 2**62]},
}


@pytest.mark.parametrize("rle", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_encodings_are_refused(rle):
    with pytest.raises(ValueError):
        decode(rle)
    with pytest.raises(ValueError):
        to_mask(rle, 3, 4)


def test_every_kind_of_segmentation():
    square = np.zeros((20, 30), dtype=bool)
    square[5:15, 10:20] = True
    polygon = [[10.0, 5, 20, 5, 20, 15, 10, 15]]
    for segmentation in (
        square,
        square.astype(np.int32) * 7,
        encode(square),
        polygon,
        [np.array(polygon[0])],
    ):
        np.testing.assert_array_equal(to_mask(segmentation, 20, 30), square)
        assert to_rle(segmentation, 20, 30) == encode(square)
    assert not to_mask([], 20, 30).any()
    assert not to_mask([[1.0, 2, 3, 4]], 20, 30).any(), "two points cover nothing"


@pytest.mark.parametrize(
    "segmentation", [np.zeros((3, 3)), [[1.0, 2, 3, 4, 5]], [1.0, 2, 3], {"size": [9, 9], "counts": "i2"}]
)
def test_what_does_not_fit_is_a_value_error(segmentation):
    with pytest.raises(ValueError):
        to_mask(segmentation, 20, 30)


def test_other_types_are_a_type_error():
    with pytest.raises(TypeError, match="int"):
        to_mask(5, 20, 30)


# ---- polygons that reach far out


def test_polygons_with_far_points_are_clipped():
    far = 1e9
    assert to_mask([[0.0, 0, far, 0, far, far, 0, far]], 40, 50).all()
    assert not to_mask([[far, far, far, 2 * far, 2 * far, far]], 40, 50).any()
    half = to_mask([[-far, 20, far, 20, far, far, -far, far]], 40, 50)
    assert half[20:].all() and not half[:19].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_clipping_keeps_what_lies_in_the_image(seed):
    """Far polygons against the sides of each pixel's centre, by the even-odd rule; pixels on the outline may differ."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2, 2, (rng.integers(3, 7), 2)) * 10.0 ** rng.uniform(1, 9, (1, 1)) + 15
    mask = to_mask([points.reshape(-1)], 20, 30)
    ys, xs = np.mgrid[:20, :30] + 0.5
    inside = np.zeros((20, 30), dtype=bool)
    near = np.zeros((20, 30), dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, 1, axis=0)):
        crosses = (y0 > ys) != (y1 > ys)
        distance = (x1 - x0) * (ys - y0) / (y1 - y0) + x0 - xs
        inside ^= crosses & (distance > 0)
        length = np.hypot(x1 - x0, y1 - y0)
        near |= np.abs((x1 - x0) * (ys - y0) - (y1 - y0) * (xs - x0)) <= 1.5 * length
    assert (mask == inside)[~near].all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308])
def test_coordinates_that_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError, match="finite"):
        to_mask([[0.0, 0, 9, 0, value, 9]], 20, 30)


def test_an_outline_without_end_is_refused():
    zigzag = np.stack([np.tile([-5e6, 5e6], 20000), np.arange(40000) / 1000], axis=1)
    with pytest.raises(ValueError, match="crosses"):
        to_mask([zigzag.reshape(-1)], 3000, 3000)
