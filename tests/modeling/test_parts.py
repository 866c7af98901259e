"""Matching, sampling, box coding, anchors, pooling and postprocessing, each against something obvious."""

from __future__ import annotations

import math

import pytest
import torch

from detectron2.layers import ROIAlign
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator, RotatedAnchorGenerator
from detectron2.modeling.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    Box2BoxTransformRotated,
)
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, Instances


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def random_boxes(n: int, size: float = 100.0) -> torch.Tensor:
    corner = torch.rand(n, 2) * size
    return torch.cat((corner, corner + 4 + torch.rand(n, 2) * size / 2), dim=1)


def slow_match(q: list[list[float]], cuts: list[float], labels: list[int], low: bool) -> tuple[list, list]:
    matches, found = [], []
    for column in zip(*q):
        best = max(column)
        matches.append(column.index(best))
        found.append(labels[sum(best >= c for c in cuts)])
    if low:
        for row in q:
            for j, value in enumerate(row):
                if value == max(row):
                    found[j] = 1
    return matches, found


@pytest.mark.parametrize("low", [False, True])
def test_matcher_equals_a_loop(low: bool) -> None:
    quality = torch.rand(5, 40).mul(20).round().div(20)  # with ties
    matcher = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=low)
    matches, labels = matcher(quality)
    want = slow_match(quality.tolist(), [0.3, 0.7], [0, -1, 1], low)
    columns = torch.arange(40)
    assert torch.equal(quality[matches, columns], quality[torch.tensor(want[0]), columns])
    # thresholds are compared in float32 by torch and in float64 by the loop: no value sits on one of them
    assert labels.tolist() == want[1] or bool(
        ((quality - 0.3).abs() < 1e-6).any() | ((quality - 0.7).abs() < 1e-6).any()
    )


def test_matcher_without_ground_truth_labels_all_as_background() -> None:
    matches, labels = Matcher([0.5], [0, 1])(torch.zeros(0, 7))
    assert matches.tolist() == [0] * 7
    assert labels.tolist() == [0] * 7


@pytest.mark.parametrize("args", [([0.7, 0.3], [0, -1, 1]), ([0.5], [0, 2]), ([0.5], [0]), ([0.0], [0, 1])])
def test_matcher_refuses_nonsense(args: tuple) -> None:
    with pytest.raises(ValueError):
        Matcher(*args)


@pytest.mark.parametrize(("num", "fraction"), [(10, 0.5), (1000, 0.5), (20, 0.0), (20, 1.0)])
def test_subsampling_respects_its_limits(num: int, fraction: float) -> None:
    labels = torch.randint(-1, 4, (200,))
    fg, bg = subsample_labels(labels, num, fraction, 3)
    assert ((labels[fg] >= 0) & (labels[fg] < 3)).all()
    assert (labels[bg] == 3).all()
    assert len(fg) == min(int(num * fraction), int(((labels >= 0) & (labels < 3)).sum()))
    assert len(bg) == min(num - len(fg), int((labels == 3).sum()))
    assert len(set(fg.tolist())) == len(fg)


@pytest.mark.parametrize("transform", [Box2BoxTransform((10.0, 10.0, 5.0, 5.0)), Box2BoxTransformLinear()])
def test_decoding_undoes_encoding(transform: object) -> None:
    src = random_boxes(50)
    # targets contain the centers of their sources, as distances to the sides ask for
    center = (src[:, :2] + src[:, 2:]) / 2
    dst = torch.cat((center - 1 - torch.rand(50, 2) * 20, center + 1 + torch.rand(50, 2) * 20), dim=1)
    back = transform.apply_deltas(transform.get_deltas(src, dst), src)
    torch.testing.assert_close(back, dst, rtol=1e-4, atol=1e-3)


def test_rotated_decoding_undoes_encoding_up_to_full_turns() -> None:
    src = torch.cat(
        (torch.rand(30, 2) * 50, 5 + torch.rand(30, 2) * 20, torch.rand(30, 1) * 720 - 360), dim=1
    )
    dst = src.roll(1, dims=0)
    transform = Box2BoxTransformRotated((1.0, 1.0, 1.0, 1.0, 1.0))
    back = transform.apply_deltas(transform.get_deltas(src, dst), src)
    torch.testing.assert_close(back[:, :4], dst[:, :4], rtol=1e-4, atol=1e-3)
    turn = (back[:, 4] - dst[:, 4]).remainder(360)
    assert torch.minimum(turn, 360 - turn).max() < 1e-2


@pytest.mark.parametrize("transform", [Box2BoxTransform((1.0, 1.0, 1.0, 1.0)), Box2BoxTransformLinear()])
def test_several_classes_are_decoded_one_by_one(transform: object) -> None:
    src, deltas = random_boxes(6), torch.randn(6, 12)
    want = torch.cat([transform.apply_deltas(deltas[:, 4 * k : 4 * k + 4], src) for k in range(3)], dim=1)
    assert torch.equal(transform.apply_deltas(deltas, src), want)
    assert transform.apply_deltas(deltas[:0], src[:0]).shape == (0, 12)


def test_sources_without_area_are_an_error() -> None:
    with pytest.raises(ValueError, match="positive width"):
        Box2BoxTransform((1.0,) * 4).get_deltas(torch.tensor([[1.0, 1, 1, 5]]), random_boxes(1))


def test_anchors_equal_a_loop_and_are_cached() -> None:
    generator = DefaultAnchorGenerator(sizes=[[32, 64]], aspect_ratios=[[0.5, 2.0]], strides=[8], offset=0.5)
    features = [torch.zeros(1, 1, 2, 3)]
    want = []
    for y in range(2):
        for x in range(3):
            for size in (32, 64):
                for ratio in (0.5, 2.0):
                    w = math.sqrt(size**2 / ratio)
                    h = w * ratio
                    cx, cy = (x + 0.5) * 8, (y + 0.5) * 8
                    want.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
    (first,) = generator(features)
    torch.testing.assert_close(first.tensor, torch.tensor(want))
    assert generator(features)[0].tensor is first.tensor
    assert generator.state_dict() == {}
    with pytest.raises(ValueError, match="feature maps"):
        generator(features * 2)


def test_rotated_anchors_count_and_order() -> None:
    generator = RotatedAnchorGenerator(sizes=[[8]], aspect_ratios=[[1.0]], angles=[[-45, 0]], strides=[4])
    (anchors,) = generator([torch.zeros(1, 1, 1, 2)])
    assert anchors.tensor[:, 4].tolist() == [-45, 0, -45, 0]
    assert generator.num_anchors == [2]


def test_levels_follow_the_size_of_boxes() -> None:
    sides = torch.tensor([0.0, 10, 112, 223, 224, 448, 5000])
    boxes = Boxes(torch.stack((torch.zeros(7), torch.zeros(7), sides, sides), dim=1))
    assert assign_boxes_to_levels([boxes], 2, 5, 224, 4).tolist() == [0, 0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("size", [7, (3, 5)])
def test_pooler_equals_its_levels_and_the_form_for_graphs(size: int | tuple[int, int]) -> None:
    pooler = ROIPooler(size, (1 / 4, 1 / 8), 0, "ROIAlignV2", canonical_box_size=40, canonical_level=3)
    maps = [torch.randn(2, 3, 40, 40), torch.randn(2, 3, 20, 20)]
    boxes = [Boxes(random_boxes(9)), Boxes(random_boxes(0))]
    got = pooler(maps, boxes)
    level = assign_boxes_to_levels(boxes, 2, 3, 40, 3)
    rois = torch.cat((torch.zeros(9, 1), boxes[0].tensor), dim=1)
    for i in range(9):
        op = ROIAlign(pooler.output_size, (1 / 4, 1 / 8)[level[i]], 0, aligned=True)
        torch.testing.assert_close(got[i], op(maps[level[i]], rois[i : i + 1])[0])
    torch.testing.assert_close(pooler._pool_masked(maps, rois, level), got)
    assert pooler(maps, [b[:0] for b in boxes]).shape[0] == 0


def test_postprocessing_leaves_its_input_alone_and_drops_empty_boxes() -> None:
    found = Instances((100, 120), pred_boxes=Boxes(torch.tensor([[0.0, 0, 50, 50], [130, 0, 140, 50]])))
    found.scores = torch.tensor([0.5, 0.4])
    result = detector_postprocess(found, 50, 240)
    assert result.pred_boxes.tensor.tolist() == [[0, 0, 100, 25]]
    assert result.scores.tolist() == [0.5]
    assert found.pred_boxes.tensor[0].tolist() == [0, 0, 50, 50]
