"""Soft-NMS against the loop of the paper, written out."""

import math

import pytest
import torch
from torch import Tensor

from detectron2.config import get_cfg
from detectron2.layers import nms
from detectron2.layers.soft_nms import SoftNMS, soft_nms
from detectron2.modeling.roi_heads.detections import soft_nms_inference
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference, soft_nms_of


def some_boxes(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    size = 5 + torch.rand(count, 2, generator=generator) * 30
    return torch.cat([corner, corner + size], 1), torch.rand(count, generator=generator)


def iou_of(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow(boxes: Tensor, scores: Tensor, method: str) -> list[tuple[int, float]]:
    left = dict(enumerate(scores.tolist()))
    taken = []
    while left:
        best = max(left, key=lambda i: left[i])
        taken.append((best, left.pop(best)))
        for i in list(left):
            iou = iou_of(boxes[i].tolist(), boxes[best].tolist())
            if method == "gaussian":
                left[i] *= math.exp(-(iou**2) / 0.5)
            elif iou >= 0.3:
                left[i] *= 1 - iou if method == "linear" else 0
            if left[i] < 1e-3:
                del left[i]
    return taken


@pytest.mark.parametrize("method", ["linear", "gaussian", "naive"])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_equals_the_loop_of_the_paper(method: str, count: int) -> None:
    boxes, scores = some_boxes(count)
    found, keep = soft_nms(boxes, scores, method=method)
    want = slow(boxes, scores, method)
    assert keep.tolist() == [i for i, _ in want]
    assert found[:, 4].tolist() == pytest.approx([s for _, s in want], rel=1e-5)
    assert torch.equal(found[:, :4], boxes[keep])


def test_naive_is_nms() -> None:
    boxes, scores = some_boxes(50, 1)
    scores = scores + 0.1
    assert torch.equal(soft_nms(boxes, scores, method="naive")[1], nms(boxes, scores, 0.3))


def test_nothing_and_one_box() -> None:
    boxes, scores = some_boxes(1)
    found, keep = soft_nms(boxes[:0], scores[:0])
    assert found.shape == (0, 5) and keep.shape == (0,)
    assert soft_nms(boxes, scores)[0][0, 4] == scores[0]


def test_words_and_offsets_are_checked() -> None:
    with pytest.raises(ValueError, match="'linear', 'gaussian', 'naive'"):
        soft_nms(*some_boxes(2), method="hard")
    with pytest.raises(ValueError, match="offset"):
        soft_nms(*some_boxes(2), offset=2)


def test_classes_leave_each_other_alone() -> None:
    boxes, scores = some_boxes(40, 2)
    classes = torch.arange(40) % 3
    found, keep = SoftNMS()(boxes, scores, classes)
    assert (found[:-1] >= found[1:]).all()
    for c in range(3):
        own = torch.nonzero(classes == c)[:, 0]
        alone = soft_nms(boxes[own], scores[own])
        here = classes[keep] == c
        assert torch.equal(keep[here], own[alone[1]])
        torch.testing.assert_close(found[here], alone[0][:, 4], rtol=1e-4, atol=1e-6)


def test_detections_of_an_image() -> None:
    boxes, scores = some_boxes(20, 3)
    table = torch.stack([scores, 1 - scores, torch.zeros(20)], 1)
    results, kept = soft_nms_inference([boxes], [table], [(50, 50)], 0.2, 12, SoftNMS())
    assert len(results[0]) == len(kept[0]) == 12
    assert results[0].pred_boxes.tensor.max() <= 50
    hard, _ = fast_rcnn_inference([boxes], [table], [(50, 50)], 0.2, 0.3, 1)
    assert torch.equal(
        results[0].pred_boxes.tensor[:1], hard[0].pred_boxes.tensor
    )  # the best one is the same
    nothing, _ = soft_nms_inference([boxes[:0]], [table[:0]], [(50, 50)], 0.2, 12, SoftNMS())
    assert len(nothing[0]) == 0


def test_option_of_yaml_configs() -> None:
    cfg = get_cfg()
    assert soft_nms_of(cfg) is None
    cfg.merge_from_list(["TEST.SOFT_NMS.ENABLED", True, "TEST.SOFT_NMS.METHOD", "gaussian"])
    assert soft_nms_of(cfg) == SoftNMS("gaussian")
