"""Instances in the forms of other programs."""

import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks, RotatedBoxes
from detectron2.structures.exchange import as_arrays
from detectron2.structures.outlines import mask_polygons
from detectron2.structures.rle import decode, to_mask
from detectron2.visualization import VisImage


def some(count: int = 3, keypoints: bool = True) -> Instances:
    """Squares with masks that are a pixel smaller, a hole in the first."""
    found = Instances((40, 60))
    corners = torch.tensor([[3.0 + 9 * k, 5 + k, 15 + 9 * k, 20 + k] for k in range(count)]).reshape(-1, 4)
    found.pred_boxes, found.scores = Boxes(corners), torch.linspace(0.9, 0.3, count)
    found.pred_classes = torch.arange(count) % 2
    masks = torch.zeros(count, 40, 60, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners.int().tolist(), strict=True):
        mask[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = True
    if count:
        masks[0, 10:12, 8:10] = False
    found.pred_masks = masks
    if keypoints:
        found.pred_keypoints = torch.rand(count, 4, 3)
    return found


@pytest.mark.parametrize("count", [0, 1, 3])
def test_coco_is_what_the_evaluator_writes(count):
    found = some(count)
    ours = found.to_coco(image_id=7)
    assert ours == instances_to_coco_json(found, 7)
    assert json.loads(json.dumps(ours)) == ours


def test_names_tracks_and_masks_as_polygons():
    found = some()
    found.ID = [4, 9, 1]
    records = found.to_coco(class_names=["cat"], masks="polygons")
    assert [r["class"] for r in records] == ["cat", "1", "cat"] and [r["track_id"] for r in records] == [
        4,
        9,
        1,
    ]
    filled = found.pred_masks.numpy().copy()
    filled[0, 10:12, 8:10] = True
    for record, mask in zip(records, filled, strict=True):
        assert np.array_equal(to_mask(record["segmentation"], 40, 60), mask)
    for record, mask in zip(found.to_coco(), found.pred_masks, strict=True):
        assert np.array_equal(decode(record["segmentation"]), mask.numpy())
    with pytest.raises(ValueError, match="'svg'"):
        found.to_coco(masks="svg")
    with pytest.raises(ValueError, match="needs boxes"):
        Instances((4, 4), scores=torch.zeros(1)).to_coco()


def test_two_separate_parts_are_two_polygons_and_nothing_is_none():
    mask = np.zeros((9, 9), bool)
    mask[1:3, 1:3] = mask[5:8, 5:8] = True
    assert len(mask_polygons(mask)) == 2 and mask_polygons(np.zeros((3, 3), bool)) == []


def test_labels_and_proposals_are_read_too():
    polygons = PolygonMasks([[np.array([1.0, 1, 9, 1, 9, 9, 1, 9])]])
    labels = Instances(
        (10, 12), gt_boxes=Boxes(torch.ones(1, 4)), gt_classes=torch.tensor([2]), gt_masks=polygons
    )
    arrays = as_arrays(labels)
    assert arrays["masks"].sum() == 64 and arrays["classes"].tolist() == [2]
    labels.gt_masks = BitMasks(torch.ones(1, 10, 12))
    assert as_arrays(labels)["masks"].all()
    half = Instances(
        (9, 9), proposal_boxes=Boxes(torch.ones(2, 4)), objectness_logits=torch.ones(2).bfloat16()
    )
    assert as_arrays(half)["scores"].dtype == np.float32 and half.to_coco()[0]["score"] == 1.0


def test_data_frames():
    pytest.importorskip("pandas")
    table = some().to_dataframe(["cat", "dog"])
    assert list(table["class"]) == ["cat", "dog", "cat"] and table["area"].tolist() == [126, 130, 130]
    assert table.loc[1, ["x0", "y0", "x1", "y1"]].tolist() == [12, 6, 24, 21]
    rotated = Instances((9, 9), pred_boxes=RotatedBoxes(torch.tensor([[4.0, 5, 2, 1, 30]])))
    assert rotated.to_dataframe()["angle"].tolist() == [30]
    assert len(some(0).to_dataframe()) == 0


def test_supervision_draws_and_counts_them():
    pytest.importorskip("supervision")
    found = some()
    found.ID = [1, 2, 3]
    detections = found.to_supervision(["cat", "dog"])
    assert np.array_equal(detections.xyxy, found.pred_boxes.tensor.numpy()) and len(detections) == 3
    assert detections.data["class_name"].tolist() == ["cat", "dog", "cat"]
    assert detections.tracker_id.tolist() == [1, 2, 3]
    assert np.array_equal(np.asarray(detections.mask), found.pred_masks.numpy())
    assert len(some(0).to_supervision()) == 0
    turned = Instances((20, 20), pred_boxes=RotatedBoxes(torch.tensor([[10.0, 10, 8, 4, 90.0]])))
    assert np.allclose(turned.to_supervision().xyxy, [[8, 6, 12, 14]], atol=1e-5)


def test_corners_of_rotated_boxes_turn_counter_clockwise():
    angle = 30.0
    turned = Instances((40, 40), pred_boxes=RotatedBoxes(torch.tensor([[20.0, 20, 10, 0, angle]])))
    pytest.importorskip("supervision")
    corners = turned.to_supervision().data["xyxyxyxy"][0]
    right = corners[1]  # of a flat box: its right end, which is up on the screen
    expected = [20 + 5 * math.cos(math.radians(angle)), 20 - 5 * math.sin(math.radians(angle))]
    assert np.allclose(right, expected, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 25])
def test_notebooks_show_outlines_and_a_table(count):
    text = some(count)._repr_html_()
    assert f"{count} instance" in text and text.count("<tr>") == 1 + min(count, 20)
    assert text.count("stroke=") == count and ("and 5 more" in text) == (count == 25)
    assert "<svg" in text and "nan" not in text
    assert "0 instances" in Instances((0, 0))._repr_html_()


def test_fields_of_other_names_do_no_harm():
    odd = Instances((4, 4), note=["<b>"], scores=torch.tensor([float("nan")]))
    assert "<b>" not in odd._repr_html_()


def test_a_drawing_shows_itself():
    picture = np.random.default_rng(0).integers(0, 255, (9, 14, 3), dtype=np.uint8)
    shown = Image.open(io.BytesIO(VisImage(picture)._repr_png_()))
    assert np.array_equal(np.asarray(shown), picture)
