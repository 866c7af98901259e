"""Masks: bitmaps, polygons and small maps over boxes."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from shapely.geometry import Polygon

from detectron2.layers import ROIAlign
from detectron2.structures import BitMasks, Boxes, PolygonMasks, ROIMasks, polygons_to_bitmask
from detectron2.structures._bitmask_ops import _crop_all
from detectron2.structures.masks import polygon_area, rasterize_polygons_within_box


def star(rng: np.random.Generator, size: float = 40.0) -> np.ndarray:
    turns = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radius = rng.uniform(0.3, 0.5, 9) * size
    return np.stack([size / 2 + radius * np.cos(turns), size / 2 + radius * np.sin(turns)], 1).ravel()


@pytest.fixture
def polygons() -> PolygonMasks:
    rng = np.random.default_rng(0)
    return PolygonMasks([[star(rng)], [star(rng), star(rng) + 5], [star(rng, 20)]])


def test_area_against_shapely(polygons: PolygonMasks) -> None:
    want = [sum(Polygon(p.reshape(-1, 2)).area for p in instance) for instance in polygons]
    np.testing.assert_allclose(polygons.area(), want, rtol=1e-5)
    assert polygon_area(np.array([0.0, 4, 4, 0]), np.array([0.0, 0, 3, 3])) == 12


def test_pixels_are_those_of_coco(polygons: PolygonMasks) -> None:
    for instance in polygons:
        runs = coco_mask.merge(coco_mask.frPyObjects([p.tolist() for p in instance], 50, 60))
        got = polygons_to_bitmask(instance, 50, 60)
        assert got.dtype == bool
        assert (got == coco_mask.decode(runs)).all()
    stack = BitMasks.from_polygon_masks(polygons, 50, 60)
    assert (stack.tensor[1].numpy() == polygons_to_bitmask(polygons.polygons[1], 50, 60)).all()
    assert torch.equal(stack.tensor, BitMasks.from_polygon_masks(polygons.polygons, 50, 60).tensor)


def test_rasterize_whole_image_is_bitmask(polygons: PolygonMasks) -> None:
    whole = rasterize_polygons_within_box(polygons.polygons[0], np.array([0, 0, 40, 40]), 40)
    assert (whole == polygons_to_bitmask(polygons.polygons[0], 40, 40)).all()


def test_polygon_and_bitmap_crops_agree(polygons: PolygonMasks) -> None:
    boxes = polygons.get_bounding_boxes().tensor
    big = [[p * 8 for p in instance] for instance in polygons]
    a = PolygonMasks(big).crop_and_resize(boxes * 8, 14)
    b = BitMasks.from_polygon_masks(big, 400, 400).crop_and_resize(boxes * 8, 14)
    assert (a != b).float().mean() < 0.05


def test_crop_and_resize_is_pooling_of_the_whole() -> None:
    torch.manual_seed(0)
    masks = BitMasks(torch.rand(5, 30, 37).mul(3).floor() > 0)
    boxes = torch.tensor(
        [[3.3, 4.7, 20, 22], [-6, -5, 12.5, 9], [30, 20, 50, 44], [80, 80, 90, 90], [5, 5, 5.4, 5.4]]
    )
    rois = torch.cat([torch.arange(5.0)[:, None], boxes], 1)
    want = ROIAlign((9, 9), 1.0, 0)(masks.tensor[:, None].float(), rois)[:, 0]
    got = masks.crop_and_resize(boxes, 9)
    sure = (want - 0.5).abs() > 1e-5
    assert torch.equal(got[sure], want[sure] > 0.5)
    assert torch.equal(_crop_all(masks.tensor, boxes, torch.arange(5), 9)[sure], got[sure])


def test_bounding_boxes() -> None:
    masks = torch.zeros(3, 12, 15, dtype=torch.bool)
    masks[0, 3:7, 2:9] = True
    masks[1, 11, 14] = True
    assert BitMasks(masks).get_bounding_boxes().tensor.tolist() == [
        [2, 3, 9, 7],
        [14, 11, 15, 12],
        [0, 0, 0, 0],
    ]
    assert BitMasks(masks).nonempty().tolist() == [True, True, False]
    boxes = PolygonMasks(
        [[[1, 2, 5, 2, 5, 9]], [[0, 0, 1, 0, 1, 1], [7, 8, 9, 8, 9, 9]]]
    ).get_bounding_boxes()
    assert boxes.tensor.tolist() == [[1, 2, 5, 9], [0, 0, 9, 9]]


def test_no_masks() -> None:
    for empty in (PolygonMasks([]), BitMasks(torch.zeros(0, 5, 6)), ROIMasks(torch.zeros(0, 4, 4))):
        assert len(empty) == 0
        assert len(empty[:0]) == 0
    assert PolygonMasks([]).crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)
    assert BitMasks(torch.zeros(0, 5, 6)).crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)
    assert BitMasks(torch.zeros(0, 5, 6)).get_bounding_boxes().tensor.shape == (0, 4)
    assert BitMasks.from_polygon_masks([], 5, 6).tensor.shape == (0, 5, 6)
    assert PolygonMasks([]).get_bounding_boxes().tensor.shape == (0, 4)
    assert PolygonMasks([[], [[0, 0, 4, 0, 4, 4]]]).nonempty().tolist() == [False, True]
    assert PolygonMasks([[]]).crop_and_resize(torch.tensor([[0, 0, 4, 4.0]]), 3).any().item() is False


def test_from_roi_masks_covers_the_image() -> None:
    bits = BitMasks.from_roi_masks(ROIMasks(torch.ones(2, 7, 7)), 20, 30)
    assert bits.tensor.shape == (2, 20, 30)
    assert bits.tensor[:, 1:-1, 1:-1].all()  # at the corners, half of a bilinear sample lies outside
    left = torch.zeros(1, 4, 4)
    left[:, :, :2] = 1
    bits = BitMasks.from_roi_masks(ROIMasks(left), 20, 30)
    assert bits.tensor[0, 1:-1, 1:14].all() and not bits.tensor[0, :, 16:].any()


def test_roi_masks_to_bitmasks() -> None:
    bits = ROIMasks(torch.ones(2, 7, 7)).to_bitmasks(Boxes([[2, 3, 8, 9], [50, 50, 60, 60]]), 20, 30)
    assert isinstance(bits, BitMasks)
    assert bits.get_bounding_boxes().tensor.tolist() == [[2, 3, 8, 9], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    "item", [1, -1, np.int64(1), torch.tensor(1), slice(0, 3, 2), [2, 0], torch.tensor([True, False, True])]
)
def test_indexing(polygons: PolygonMasks, item) -> None:
    bits = BitMasks.from_polygon_masks(polygons, 50, 50)
    small = ROIMasks(torch.rand(3, 4, 4))
    want = torch.arange(3)[item].reshape(-1).tolist()
    assert torch.equal(bits[item].tensor, bits.tensor[want])
    assert torch.equal(small[item].tensor, small.tensor[want])
    assert all(a is polygons.polygons[i] for a, i in zip(polygons[item].polygons, want))
    assert len(polygons[item]) == len(want)


def test_cat_and_iterate(polygons: PolygonMasks) -> None:
    both = PolygonMasks.cat([polygons, polygons[:1]])
    assert [len(p) for p in both] == [1, 2, 1, 1]
    bits = BitMasks.from_polygon_masks(polygons, 50, 50)
    assert torch.equal(BitMasks.cat([bits[:1], bits[1:]]).tensor, bits.tensor)
    assert len(list(bits)) == 3


def test_errors() -> None:
    with pytest.raises(ValueError, match="3 or more points"):
        PolygonMasks([[[1, 2, 3, 4]]])
    with pytest.raises(ValueError, match="3 or more points"):
        PolygonMasks([[[1, 2, 3, 4, 5, 6, 7]]])
    with pytest.raises(TypeError, match="list"):
        PolygonMasks(np.zeros(3))
    with pytest.raises(ValueError, match=r"\[N, H, W\]"):
        BitMasks(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="2 for 1"):
        BitMasks(torch.zeros(1, 4, 4)).crop_and_resize(torch.zeros(2, 4), 3)
