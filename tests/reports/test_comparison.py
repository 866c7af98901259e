"""The page that compares two runs, and the files for other programs."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from detectron2.evaluation.coco.detections import from_json_dicts
from detectron2.evaluation.coco.truth import GroundTruth
from detectron2.evaluation.diagnosis.diagnose import diagnose
from detectron2.reports import write_comparison_page, write_training_report
from detectron2.reports.explain import write_evaluation

from .browser import needs_browser, opened

IMAGES = 12


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """A COCO json of small pictures with one or two boxes."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    annotations = []
    for i in range(1, IMAGES + 1):
        Image.fromarray(np.full((48, 64, 3), 20 * i, np.uint8)).save(folder / "images" / f"{i}.jpg")
        for k in range(1 + i % 2):
            box = [4 + 28 * k, 6 + i, 20, 18]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": (3, 7)[k], "bbox": box, "area": 360, "iscrowd": 0}
            )  # fmt: skip
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(1, IMAGES + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "<red>"}, {"id": 7, "name": "blue"}],
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return path


def write_run(folder, truth, shift, skip=()):
    """A run's folder whose predictions are the labels moved by `shift` pixels, without the classes in `skip`."""
    (folder / "inference").mkdir(parents=True)
    content = json.loads(truth.read_text())
    rows = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": [a["bbox"][0] + shift, *a["bbox"][1:]],
            "score": 0.9 - 0.01 * a["image_id"],
        }
        for a in content["annotations"]
        if a["category_id"] not in skip
    ]
    (folder / "inference" / "coco_instances_results.json").write_text(json.dumps(rows))
    val = {"json": str(truth), "images": str(truth.parent / "images"), "part": "all", "num_images": IMAGES}
    card = {"model": "tiny", "classes": ["<red>", "blue"], "category_ids": [3, 7], "val": val}
    (folder / "run.json").write_text(json.dumps(card))
    (folder / "summary.json").write_text(json.dumps({"box_AP": 0.5, "seed": 3}))
    return folder


def test_page_shows_figures_classes_and_pictures(tmp_path, truth):
    worse = write_run(tmp_path / "worse", truth, 4, skip=(7,))
    better = write_run(tmp_path / "better", truth, 0)
    page = write_comparison_page(worse, better, tmp_path / "out.html")
    text = page.read_text(encoding="utf-8")
    assert "B is better by" in text and "B is worse by" not in text
    assert "&lt;red&gt;" in text and "<red>" not in text
    assert text.count("data:image/jpeg") == IMAGES // 2  # those with an object that A does not find
    assert re.findall(r"(\d+)\.jpg: A has (\d) errors?, B (\d)", text)[0][1:] == ("1", "0")
    assert not re.findall(r"""(?:src|href)=["']?(?!data:)\w""", text), "the page needs other files"
    assert "B is worse by" in write_comparison_page(better, worse, tmp_path / "back.html").read_text("utf-8")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(tmp_path, truth, width):
    runs = [write_run(tmp_path / name, truth, shift) for name, shift in (("a", 4), ("b", 0))]
    with opened(write_comparison_page(*runs, tmp_path / "out.html"), width) as page:
        assert "95 % interval" in page.locator("table:visible").first.text_content()
        cells = page.locator("td:visible").all()
        assert all((c.bounding_box() or {"x": 0})["x"] < width for c in cells), "a cell lies out of sight"


def test_equal_runs_do_not_differ(tmp_path, truth):
    runs = [write_run(tmp_path / name, truth, 2) for name in "ab"]
    text = write_comparison_page(*runs, tmp_path / "out.html").read_text("utf-8")
    assert "Both have the same AP." in text
    assert "Where they differ most" not in text


def test_run_without_predictions(tmp_path, truth):
    empty, full = write_run(tmp_path / "a", truth, 0, skip=(3, 7)), write_run(tmp_path / "b", truth, 0)
    assert "B is better by" in write_comparison_page(empty, full, tmp_path / "out.html").read_text("utf-8")


def test_different_data_are_refused(tmp_path, truth):
    content = json.loads(truth.read_text())
    content["annotations"] = content["annotations"][1:]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    a, b = write_run(tmp_path / "a", truth, 0), write_run(tmp_path / "b", other, 0)
    with pytest.raises(ValueError, match="different labels"):
        write_comparison_page(a, b, tmp_path / "out.html")
    with pytest.raises(ValueError, match=r"run\.json is missing"):
        write_comparison_page(a, tmp_path / "nothing", tmp_path / "out.html")


def test_tables_for_other_programs(tmp_path, truth):
    ground = GroundTruth(json.loads(truth.read_text()))
    found = [
        from_json_dicts([{**a, "score": 0.5} for a in ground.by_image[i] if a["category_id"] == 3], i)
        for i in ground.images
    ]
    write_evaluation({"bbox": {"AP": float("nan")}}, diagnose(ground, found), tmp_path)
    report = json.loads((write_training_report(tmp_path).parent / "report.json").read_text())
    assert report["results"]["bbox"]["AP"] is None
    assert len(report["worst_images"]) == IMAGES // 2
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert float(rows["<red>"]["ap"]) == pytest.approx(100)
    assert float(rows["blue"]["recall"] or 0) == 0 and rows["blue"]["threshold"] == ""
