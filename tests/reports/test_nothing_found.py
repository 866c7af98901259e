"""Pages of evaluations without detections, without labels of a class, or without metrics."""

import json
import math

import pytest

from detectron2.evaluation.coco.detections import from_json_dicts
from detectron2.evaluation.coco.truth import GroundTruth
from detectron2.evaluation.diagnosis.diagnose import diagnose
from detectron2.reports.explain import plain
from detectron2.reports.page import without_nan
from detectron2.reports.training import write_training_report

BOX = [10, 10, 40, 40]


def page(tmp_path, detections, labelled=("cat",), results=None):
    """The page of an evaluation of one image, with a label of each class named; classes are cat and dog."""
    numbers = {"cat": 1, "dog": 2}
    truth = GroundTruth(
        {
            "images": [{"id": 1, "height": 100, "width": 100, "file_name": "1.jpg"}],
            "categories": [{"id": i, "name": n} for n, i in numbers.items()],
            "annotations": [
                {"id": numbers[n], "image_id": 1, "category_id": numbers[n], "bbox": BOX, "area": 1600}
                for n in labelled
            ],
        }
    )
    rows = [{"image_id": 1, "category_id": numbers[c], "bbox": BOX, "score": s} for c, s in detections]
    told = diagnose(truth, [from_json_dicts(rows, 1)])
    content = {"results": results or {"bbox": told.summary}, "notes": [], **plain(told)}
    (tmp_path / "evaluation.json").write_text(json.dumps(without_nan(content)))
    return write_training_report(tmp_path).read_text(encoding="utf-8"), told


def test_without_detections_no_curve_is_shown_as_the_models(tmp_path):
    text, told = page(tmp_path, [])
    assert "<title>ideal</title>" not in text and "No detections" in text
    assert "yet" not in text.lower().replace("style", "")
    assert told.errors.cost["Miss"] == pytest.approx(100)
    (row, _) = told.classes
    assert (row.recall, row.f1) == (0, 0) and math.isnan(row.precision) and math.isnan(row.threshold)
    assert '<td class="num" data-label="Recall">0</td>' in text
    assert "Calibration error" not in text and "not found (1)" in text


def test_with_detections_the_ideal_stands_beside_the_model(tmp_path):
    text, _ = page(tmp_path, [("cat", 0.9)])
    assert "<title>ideal</title>" in text and "<title>this model</title>" in text
    assert "Calibration error 0.1, over 1 detection." in text


@pytest.mark.parametrize("detections", [[], [("cat", 0.9), ("dog", 0.8)], [("dog", 0.8)]])
@pytest.mark.parametrize("labelled", [(), ("cat",), ("dog",), ("cat", "dog")])
def test_classes_without_labels_have_no_curves(tmp_path, detections, labelled):
    text, _ = page(tmp_path, detections, labelled)
    for name in ("cat", "dog"):
        drawn = f"<title>{name}</title>" in text
        assert drawn == (name in labelled and name in dict(detections))


def test_undefined_figures_are_dashes(tmp_path):
    figures = {"AP": -100.0, "AP50": float("nan"), "AP75": None, "APs": 12.3}
    text, _ = page(tmp_path, [], results={"bbox": figures})
    assert "-100" not in text and "nan" not in text.lower()
    assert "12.3" in text and math.isnan(figures["AP50"])
