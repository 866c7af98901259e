"""``COCOEvaluator`` from registered data to results and files."""

import json
import logging
import math
import os

import numpy as np
import pytest
import torch

from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco.truth import GroundTruth
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, BoxMode, Instances

NAMES = ["ant", "bee", "cow"]
SIZE = (120, 160)


def dicts_of(seed=0, images=6, masks=True):
    rng = np.random.default_rng(seed)
    dicts = []
    for i in range(images):
        annotations = []
        for _ in range(int(rng.integers(1, 5))):
            x, y = rng.uniform(0, 80, 2)
            w, h = rng.uniform(10, 40, 2)
            entry = {
                "bbox": [x, y, x + w, y + h],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": int(rng.integers(2)),
            }
            if masks:
                entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(entry)
        dicts.append(
            {
                "file_name": f"{i}.jpg",
                "image_id": 3 * i + 2,
                "height": SIZE[0],
                "width": SIZE[1],
                "annotations": annotations,
            }
        )
    return dicts


def perfect(record, shift=0.0, classes=None):
    boxes = (
        torch.tensor([a["bbox"] for a in record["annotations"]], dtype=torch.float32).reshape(-1, 4) + shift
    )
    found = Instances(SIZE)
    found.pred_boxes = Boxes(boxes)
    found.scores = torch.linspace(0.9, 0.5, len(boxes))
    found.pred_classes = torch.tensor(
        [a["category_id"] if classes is None else classes for a in record["annotations"]]
    )
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().int().tolist()):
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    found.pred_masks = masks
    return found


def run(evaluator, dicts, predict=perfect, **kwargs):
    evaluator.reset()
    for record in dicts:
        evaluator.process([record], [{"instances": predict(record, **kwargs)}])
    return evaluator.evaluate()


@pytest.fixture
def data(register):
    dicts = dicts_of()
    return register("evaluation_test_set", dicts, thing_classes=NAMES), dicts


def memory(name, **kwargs):
    return COCOEvaluator(name, distributed=False, allow_cached_coco=False, **kwargs)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_perfect_predictions_score_100(data, engine):
    name, dicts = data
    results = run(memory(name, engine=engine), dicts)
    assert list(results) == ["bbox", "segm"]
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["bbox"]["AP-ant"] == pytest.approx(100)
    assert math.isnan(results["bbox"]["AP-cow"])
    assert results["segm"]["AP50"] == pytest.approx(100)


@pytest.mark.parametrize("shift", [0.0, 1.5, 4.0])
def test_engines_agree(data, shift):
    name, dicts = data
    results = [run(memory(name, engine=e), dicts, shift=shift) for e in ("hotcoco", "pycocotools")]
    for task in results[0]:
        np.testing.assert_array_equal(list(results[0][task].values()), list(results[1][task].values()))


def test_dataset_dicts_are_never_written_without_a_folder(data, tmp_path, monkeypatch):
    name, dicts = data
    monkeypatch.chdir(tmp_path)
    assert run(memory(name), dicts)["bbox"]["AP"] == pytest.approx(100)
    assert os.listdir(tmp_path) == []


def test_a_cached_file_that_no_longer_fits_is_made_anew(register, tmp_path, caplog):
    name = register("evaluation_changing_set", dicts_of(0), thing_classes=NAMES)
    COCOEvaluator(name, distributed=False, output_dir=str(tmp_path))
    from detectron2.data import DatasetCatalog

    DatasetCatalog.remove(name)
    changed = dicts_of(1, images=9)
    DatasetCatalog.register(name, lambda: changed)
    with caplog.at_level(logging.WARNING):
        evaluator = COCOEvaluator(name, distributed=False, output_dir=str(tmp_path))
    assert "does not match" in caplog.text
    assert run(evaluator, changed)["bbox"]["AP"] == pytest.approx(100)


def test_files(data, tmp_path):
    name, dicts = data
    run(COCOEvaluator(name, distributed=False, output_dir=str(tmp_path)), dicts)
    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    stored = torch.load(tmp_path / "instances_predictions.pth", weights_only=True)
    assert [d for p in stored for d in p["instances"]] == written
    assert len(written) == sum(len(d["annotations"]) for d in dicts)
    assert set(written[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}


def test_same_keys_without_any_detection(data, caplog):
    name, dicts = data
    full = run(memory(name), dicts)
    with caplog.at_level(logging.WARNING):
        empty = run(memory(name, tasks=("bbox", "segm")), dicts, predict=lambda record: perfect(record)[:0])
    assert {t: list(m) for t, m in empty.items()} == {t: list(m) for t, m in full.items()}
    assert empty["bbox"]["AP"] == 0
    assert "detected nothing" in caplog.text


def test_nothing_processed(data, caplog):
    evaluator = memory(data[0])
    evaluator.reset()
    assert evaluator.evaluate() == {}
    assert "no predictions" in caplog.text


def as_xywh(boxes):
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda f, r: f.set("pred_classes", torch.full_like(f.pred_classes, 2)), "none in common"),
        (lambda f, r: setattr(f, "pred_boxes", Boxes(f.pred_boxes.tensor * 2.5)), "scaled by 0.4"),
        (
            lambda f, r: setattr(
                f, "pred_boxes", Boxes(f.pred_boxes.tensor / torch.tensor([160, 120, 160, 120]))
            ),
            "relative",
        ),
        (lambda f, r: setattr(f, "pred_boxes", Boxes(f.pred_boxes.tensor[:, [1, 0, 3, 2]])), "swapped"),
        (
            lambda f, r: setattr(f, "pred_boxes", Boxes(as_xywh(f.pred_boxes.tensor))),
            "predictions are x, y, width",
        ),
    ],
    ids=["classes", "scale", "relative", "swapped", "xywh"],
)
def test_says_why_ap_is_zero(data, caplog, change, words):
    name, dicts = data

    def predict(record):
        found = perfect(record)
        found.remove("pred_masks")
        change(found, record)
        return found

    evaluator = memory(name, tasks=("bbox",))
    with caplog.at_level(logging.WARNING):
        results = run(evaluator, dicts, predict=predict)
    if results["bbox"]["AP"] <= 0.5:
        assert words in caplog.text
    else:  # some boxes fit by chance: ask directly
        from detectron2.evaluation.diagnosis.reasons import explain

        truth = evaluator._truth
        assert any(words in r for r in explain(truth.images, truth.by_image, evaluator.detections(), {}))


@pytest.mark.parametrize(
    "fault, words",
    [
        (
            lambda a, w, h: a.update(
                bbox=[*a["bbox"][:2], a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]]
            ),
            "annotations are corners",
        ),
        (
            lambda a, w, h: a.update(bbox=[v / s for v, s in zip(a["bbox"], (w, h, w, h))]),
            "annotations are relative",
        ),
        (lambda a, w, h: a.update(category_id=9), "none in common"),
        (lambda a, w, h: a.update(image_id=1000), "whether the image ids"),
        (lambda a, w, h: a.update(iscrowd=1), "crowd"),
    ],
    ids=["corners", "relative", "class map", "image ids", "crowds"],
)
def test_says_what_is_wrong_with_the_ground_truth(register, tmp_path, caplog, fault, words):
    rng = np.random.default_rng(0)
    annotations, predictions = [], []
    for image in range(1, 7):
        boxes = rng.uniform([150, 100, 30, 30], [250, 160, 60, 60], (4, 4))
        found = Instances(
            (240, 320),
            pred_boxes=Boxes(torch.from_numpy(np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]))),
        )
        found.scores, found.pred_classes = torch.ones(4), torch.zeros(4, dtype=torch.int64)
        predictions.append(found)
        for box in boxes.tolist():
            entry = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": 5,
                "bbox": box,
                "iscrowd": 0,
            }
            fault(entry, 320, 240)
            annotations.append(entry | {"area": entry["bbox"][2] * entry["bbox"][3]})
    images = [{"id": i, "height": 240, "width": 320, "file_name": f"{i}.jpg"} for i in (*range(1, 7), 1000)]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 5, "name": "a"}, {"id": 9, "name": "b"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    name = register(
        "evaluation_faulty_set", [], json_file=str(tmp_path / "a.json"), thing_classes=["a", "b"],
        thing_dataset_id_to_contiguous_id={5: 0, 9: 1},
    )  # fmt: skip
    evaluator = COCOEvaluator(name, distributed=False)
    evaluator.reset()
    for image, found in enumerate(predictions, start=1):
        evaluator.process([{"image_id": image}], [{"instances": found}])
    with caplog.at_level(logging.WARNING):
        ap = evaluator.evaluate()["bbox"]["AP"]
    assert math.isnan(ap) if words == "crowd" else ap == 0
    assert words in caplog.text
    assert any(words in reason for reason in evaluator._reasons)


def test_without_ground_truth_ap_is_undefined_and_said_so(register, caplog):
    dicts = dicts_of()
    predictions = [perfect(d) for d in dicts]
    for d in dicts:
        d["annotations"] = []
    name = register("evaluation_unlabelled_set", dicts, thing_classes=NAMES)
    evaluator = memory(name, tasks=("bbox",))
    evaluator.reset()
    for d, p in zip(dicts, predictions):
        evaluator.process([d], [{"instances": p}])
    with caplog.at_level(logging.WARNING):
        assert math.isnan(evaluator.evaluate()["bbox"]["AP"])
    assert "no annotations" in caplog.text


def test_subset_of_images(data):
    name, dicts = data
    evaluator = memory(name)
    evaluator.reset()
    evaluator.process(dicts[:1], [{"instances": perfect(dicts[0])}])
    assert evaluator.evaluate(img_ids=[dicts[0]["image_id"]])["bbox"]["AP"] == pytest.approx(100)
    assert evaluator.evaluate()["bbox"]["AP"] < 100


def test_errors_name_the_fault(data):
    name, dicts = data
    evaluator = memory(name)
    found = {"instances": perfect(dicts[0])}
    with pytest.raises(KeyError, match="image_id"):
        evaluator.process([{"file_name": "x"}], [found])
    with pytest.raises(ValueError, match="is not in"):
        evaluator.process([{"image_id": "nowhere"}], [found])
    evaluator.process([dicts[0]], [{"instances": perfect(dicts[0], classes=7)}])
    with pytest.raises(ValueError, match="unknown tasks"):
        memory(name, tasks=("boxes",))
    with pytest.raises(ValueError, match="engine"):
        memory(name, engine="fast")
    with pytest.raises(ValueError, match="output_dir"):
        COCOEvaluator(name, distributed=False)


def test_class_beyond_the_data_set(tmp_path, register):
    path = tmp_path / "a.json"
    image = {"id": 1, "height": 120, "width": 160, "file_name": "1.jpg"}
    content = {"images": [image], "annotations": [], "categories": [{"id": 7, "name": "ant"}]}
    path.write_text(json.dumps(content))
    name = register(
        "evaluation_json_set",
        [],
        thing_classes=["ant"],
        json_file=str(path),
        thing_dataset_id_to_contiguous_id={7: 0},
    )
    evaluator = COCOEvaluator(name, distributed=False)
    evaluator.reset()
    record = dicts_of()[0] | {"image_id": 1}
    evaluator.process([record], [{"instances": perfect(record, classes=3)}])
    with pytest.raises(ValueError, match=r"class 3.*1 classes"):
        evaluator.evaluate()


def test_incomplete_annotations_are_completed():
    image = {"id": 4, "height": 50, "width": 60}
    square = [[10, 10, 20, 10, 20, 30, 10, 30]]
    truth = GroundTruth(
        {
            "images": [image],
            "categories": [{"id": 1}],
            "annotations": [
                {"image_id": 4, "category_id": 1, "bbox": [1, 2, 3, 4]},
                {"image_id": 4, "category_id": 1, "segmentation": square, "id": 0},
                {"image_id": 4, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 5, "iscrowd": True},
            ],
        }
    )
    assert [a["id"] for a in truth.annotations] == [1, 2, 3]
    assert [a["area"] for a in truth.annotations] == [12, 200, 5]
    assert [a["iscrowd"] for a in truth.annotations] == [0, 0, 1]
    assert truth.annotations[1]["bbox"] == [10, 10, 10, 20]
    with pytest.raises(ValueError, match="neither"):
        GroundTruth(
            {"images": [image], "categories": [{"id": 1}], "annotations": [{"image_id": 4, "category_id": 1}]}
        )


def test_json_of_instances():
    found = perfect(dicts_of()[0])
    found.pred_keypoints = torch.full((len(found), 2, 3), 4.0)
    entries = instances_to_coco_json(found, 8)
    assert len(entries) == len(found)
    assert entries[0]["keypoints"] == [3.5, 3.5, 4.0] * 2
    x, y, w, h = entries[0]["bbox"]
    assert [x, y, x + w, y + h] == pytest.approx(found.pred_boxes.tensor[0].tolist(), abs=1e-4)
    assert instances_to_coco_json(found[:0], 8) == []
    half = Instances(
        SIZE,
        pred_boxes=Boxes(torch.ones(1, 4)),
        scores=torch.ones(1, dtype=torch.bfloat16),
        pred_classes=torch.zeros(1),
    )
    assert instances_to_coco_json(half, 1)[0]["score"] == 1.0


def test_masks_must_be_pasted():
    found = perfect(dicts_of()[0])
    found.pred_masks = torch.zeros(len(found), 1, 28, 28)
    with pytest.raises(ValueError, match="paste"):
        instances_to_coco_json(found, 1)


def test_diagnosis(data):
    name, dicts = data
    evaluator = memory(name)
    results = run(evaluator, dicts, shift=1.5)
    diagnosis = evaluator.diagnose("bbox")
    assert diagnosis.summary["AP"] == results["bbox"]["AP"]
    assert [row.ap for row in diagnosis.classes][:2] == [results["bbox"]["AP-ant"], results["bbox"]["AP-bee"]]
