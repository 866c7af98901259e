"""When two results for one picture count as the same."""

from __future__ import annotations

from typing import Any

import torch

from detectron2.export.proof import TOLERANCES, Tolerance, compare
from detectron2.structures import Boxes, Instances

EXACT = Tolerance()


def objects(scores: list[float], shift: float = 0.0, classes: list[int] | None = None) -> Any:
    count = len(scores)
    corner = torch.arange(count, dtype=torch.float32)[:, None] * 30 + torch.tensor([[0.0, 0.0]])
    boxes = torch.cat((corner, corner + 20), 1) + shift
    masks = torch.zeros(count, 400, 400, dtype=torch.bool)
    for i, (x0, y0, x1, y1) in enumerate(boxes.round().int().tolist()):
        masks[i, y0:y1, x0:x1] = True
    return {
        "instances": Instances(
            (400, 400),
            pred_boxes=Boxes(boxes),
            scores=torch.tensor(scores),
            pred_classes=torch.tensor(classes or [0] * count),
            pred_masks=masks,
        )
    }


def test_equal_results_agree_in_any_order() -> None:
    wanted = objects([0.9, 0.5, 0.5, 0.1])
    found = {"instances": wanted["instances"][torch.tensor([0, 2, 1, 3])]}
    result = compare(wanted, found, EXACT)
    assert not result.problems and result.objects == 4 and result.missing == 0
    assert result.box == result.score == 0 and result.mask_iou == 1
    nothing = objects([])
    assert not compare(nothing, nothing, EXACT).problems


def test_what_differs_is_named() -> None:
    wanted = objects([0.9, 0.5, 0.3])
    moved = compare(wanted, objects([0.9, 0.5, 0.3], shift=0.3), EXACT)
    assert any("box: 3 of 3" in p and "0.3 px" in p for p in moved.problems)
    scored = compare(wanted, objects([0.9, 0.52, 0.3]), EXACT)
    assert scored.problems == [
        "score: 1 of 3 objects, such as class 0, score 0.500, box (30.0, 30.0, 50.0, 50.0): 0.02 off"
    ]
    other = compare(wanted, objects([0.9, 0.5, 0.3], classes=[1, 0, 0]), EXACT)
    assert len(other.problems) == 2 and "the file lacks 1 of 3" in other.problems[0]
    masked = objects([0.9, 0.5, 0.3])
    masked["instances"].pred_masks[1, 30:40] = False
    assert any(p.startswith("mask: 1 of 3") for p in compare(wanted, masked, EXACT).problems)
    assert compare(wanted, {}, EXACT).problems == ["the file gives no instances"]


def test_objects_at_the_limit_of_scores_may_be_missing() -> None:
    wanted, found = objects([0.9, 0.5, 0.0500005]), objects([0.9, 0.5])
    assert not compare(wanted, found, EXACT, threshold=0.05).problems
    assert not compare(wanted, found, EXACT, most=3).problems
    assert compare(wanted, found, EXACT, most=4).problems
    assert compare(objects([0.9]), objects([]), EXACT, threshold=0.05, most=100).problems
    assert compare(objects([0.9, 0.5, 0.05]), objects([0.9]), EXACT).problems


def test_int8_looks_at_confident_objects_only() -> None:
    wanted, found = objects([0.9, 0.8, 0.2]), objects([0.7, 0.95], shift=2.0)
    assert not compare(wanted, found, TOLERANCES["int8"]).problems
    assert compare(wanted, objects([0.1, 0.1]), TOLERANCES["int8"]).problems


def test_a_few_boxes_of_half_precision_may_be_elsewhere() -> None:
    wanted, found = objects([0.9 - 0.01 * k for k in range(40)]), objects([0.9 - 0.01 * k for k in range(40)])
    for count, agrees in ((2, True), (3, False)):  # 5 % of 40 are 2
        found["instances"].pred_boxes.tensor[:count, 2] = wanted["instances"].pred_boxes.tensor[:count, 2] + 4
        found["instances"].pred_masks[:count] = False
        result = compare(wanted, found, TOLERANCES["fp16"])
        assert not result.problems == agrees and result.missing == (count if agrees else 0)
    assert any(p.startswith("box: 3 of 40") for p in result.problems)
    assert compare(wanted, found, EXACT).problems


def test_labels_of_pixels_are_compared() -> None:
    labels = torch.zeros(3, 50, 50)
    labels[1, :25] = 1
    other = labels.clone()
    other[2, :10] = 2
    assert not compare({"sem_seg": labels}, {"sem_seg": labels}, EXACT).problems
    assert "80.00 %" in compare({"sem_seg": labels}, {"sem_seg": other}, EXACT).problems[0]
    segments = torch.ones(50, 50, dtype=torch.int32)
    segments[:25] = 2
    info: list[Any] = [
        {"id": 1, "category_id": 4, "isthing": True},
        {"id": 2, "category_id": 4, "isthing": False},
    ]
    swapped: list[Any] = [{**info[1], "id": 1}, {**info[0], "id": 2}]
    one, two = {"panoptic_seg": (segments, info)}, {"panoptic_seg": (3 - segments, swapped)}
    assert not compare(one, two, EXACT).problems  # the numbers of segments do not matter
    assert compare(one, {"panoptic_seg": (segments, swapped)}, EXACT).problems
