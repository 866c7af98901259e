"""Rotated boxes, checked by their corners."""

import math

import numpy as np
import pytest
import torch

from detectron2.structures import Boxes, BoxMode, RotatedBoxes, pairwise_iou, pairwise_iou_rotated


def random_rotated(count: int) -> RotatedBoxes:
    return RotatedBoxes(
        torch.cat(
            [torch.rand(count, 2) * 90, 1 + torch.rand(count, 2) * 40, torch.rand(count, 1) * 720 - 360], 1
        )
    )


def corners(box: list[float]) -> np.ndarray:
    x, y, w, h, angle = box
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    ends = [(i * w / 2, j * h / 2) for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return np.array([(x + u * c + v * s, y + v * c - u * s) for u, v in ends])


def test_inside_box_by_corners() -> None:
    torch.manual_seed(0)
    boxes = random_rotated(200)
    want = []
    for row in boxes.tensor.tolist():
        points = corners(row)
        want.append(bool((points >= 0).all() and (points < [100, 80]).all()))
    assert boxes.inside_box((80, 100)).tolist() == want
    assert any(want) and not all(want)


def test_enclosing_box_by_corners() -> None:
    torch.manual_seed(1)
    boxes = random_rotated(20).tensor
    got = BoxMode.convert(boxes, BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)
    points = np.array([corners(b) for b in boxes.tolist()])
    np.testing.assert_allclose(got, np.concatenate([points.min(1), points.max(1)], 1), atol=1e-3)


def test_scale_by_corners() -> None:
    """Equal factors move the corners; unequal ones keep the middles of the sides' lengths."""
    torch.manual_seed(2)
    boxes = random_rotated(20)
    before = np.array([corners(b) for b in boxes.tensor.tolist()])
    even = boxes.clone()
    even.scale(2.0, 2.0)
    after = np.array([corners(b) for b in even.tensor.tolist()])
    np.testing.assert_allclose(after, before * 2, atol=1e-2)
    odd = boxes.clone()
    odd.scale(0.5, 3.0)
    sides = (before[:, 0] - before[:, 1]) * [0.5, 3.0]
    np.testing.assert_allclose(odd.tensor[:, 2], np.linalg.norm(sides, axis=1), rtol=1e-4)
    np.testing.assert_allclose(odd.area() >= boxes.area() * 1.5 - 1e-2, True)


def test_normalize_keeps_the_region() -> None:
    boxes = random_rotated(10)
    turned = RotatedBoxes(boxes.tensor + torch.tensor([0, 0, 0, 0, 720.0]))
    turned.normalize_angles()
    assert (turned.tensor[:, 4] >= -180).all() and (turned.tensor[:, 4] < 180).all()
    torch.testing.assert_close(
        pairwise_iou_rotated(boxes, turned).diagonal(), torch.ones(10), atol=1e-4, rtol=0
    )


def test_clip_upright_as_boxes() -> None:
    torch.manual_seed(3)
    upright = random_rotated(30)
    upright.tensor[:, 4] = 0
    flat = Boxes(BoxMode.convert(upright.tensor, BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS))
    upright.clip((60, 70))
    flat.clip((60, 70))
    got = BoxMode.convert(upright.tensor, BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)
    torch.testing.assert_close(got, flat.tensor, atol=1e-4, rtol=0)
    slanted = RotatedBoxes([[0, 0, 50, 50, 45]])
    slanted.clip((10, 10))
    assert slanted.tensor.tolist() == [[0, 0, 50, 50, 45]]


def test_container() -> None:
    boxes = random_rotated(5)
    assert isinstance(boxes, Boxes)
    for item in (1, np.int64(1), torch.tensor(1)):
        assert isinstance(boxes[item], RotatedBoxes)
        assert torch.equal(boxes[item].tensor, boxes.tensor[1:2])
    assert len(boxes[:5]) == 5
    assert RotatedBoxes([]).tensor.shape == (0, 5)
    assert RotatedBoxes.cat([]).tensor.shape == (0, 5)
    assert len(RotatedBoxes.cat([boxes, boxes[2]])) == 6
    assert boxes.nonempty(threshold=10).tolist() == [
        w > 10 and h > 10 for _, _, w, h, _ in boxes.tensor.tolist()
    ]
    with pytest.raises(ValueError, match=r"\[N, 5\]"):
        RotatedBoxes(torch.zeros(2, 4))


def test_iou_of_upright_boxes() -> None:
    torch.manual_seed(4)
    a, b = random_rotated(10), random_rotated(12)
    for boxes in (a, b):
        boxes.tensor[:, 4] = 0
    flat = [Boxes(BoxMode.convert(x.tensor, BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)) for x in (a, b)]
    torch.testing.assert_close(pairwise_iou_rotated(a, b), pairwise_iou(*flat), atol=1e-5, rtol=1e-4)
