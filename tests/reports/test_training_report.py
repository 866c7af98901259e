"""The report of a run: its data, curves, pictures and files, in the page and in report.json."""

import json
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import Metadata
from detectron2.engine.hooks import ReportWriter
from detectron2.reports import draw_training_batch, write_training_report
from detectron2.reports.pictures import MOST_BYTES, draw_instances, draw_labels, save_row
from detectron2.structures import Boxes, BoxMode, Instances

from .browser import needs_browser, opened
from .sample_run import EVIL, write_sample_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run with its report; one class has a name that is a script."""
    folder = write_sample_run(tmp_path_factory.mktemp("run"))
    write_training_report(folder)
    return folder


def test_report_json_has_each_number_of_the_page(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["summary"] == {"box_AP": 0.425, "seconds": 200.4, "iterations": 1200}
    for shown in ("42.5", "3 min 20 s", "1,200"):
        assert f"<b>{shown}</b>" in text
    assert report["training"]["val/total_loss"] == [[599, 1.5], [1199, 1.0]]
    assert '<polyline class="s1" points="599,1.5 1199,1"><title>validation</title>' in text
    assert report["run"]["train"]["labels"] == [3, 40, 0]
    assert "Training: 43 labels" in text and "1 class without a label." in text
    assert "Trained on 2 images with 43 labelled objects of 3 classes" in text
    for row in report["classes"]:
        assert {"precision", "recall", "f1", "score"} == set(report["curves"][row["name"]])
    assert report["confusion"]["min_score"] > 0 and sum(report["calibration"]["count"])


def test_the_page_is_one_safe_file(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    assert EVIL not in text and EVIL in unescape(text)
    assert text.count("<script>") == 1
    assert "http" not in text.replace("http://www.w3.org", "")
    alts = [piece.split('"')[0] for piece in text.split('<img alt="')[1:]]
    assert len([a for a in alts if a]) == 3, (
        "each picture has a text; the empty frame of the large view has none"
    )
    links = [piece.split('"')[0] for piece in text.split('<a href="')[1:]]
    assert {"report.json", "metrics.json", "run.json", "pictures/"} <= set(links)
    assert all((run / link).exists() for link in links)


def test_a_run_without_files_has_a_page(tmp_path):
    text = write_training_report(tmp_path / "new").read_text(encoding="utf-8")
    assert "?" not in text.split("<body>")[1].split("<dialog")[0] and "None" not in text
    assert json.loads((tmp_path / "new" / "report.json").read_text())["training"] == {}


def test_one_of_each_is_singular(tmp_path):
    val = {"num_images": 1, "num_instances": 1, "labels": [1], "json": "val.json"}
    (tmp_path / "run.json").write_text(
        json.dumps({"model": "m", "classes": ["cat"], "train": val, "val": val})
    )
    (tmp_path / "summary.json").write_text(json.dumps({"box_AP": 0.5, "seconds": 5, "iterations": 1}))
    (tmp_path / "evaluation.json").write_text(json.dumps({"results": {"bbox": {"AP": 50.0}}, "notes": []}))
    text = write_training_report(tmp_path).read_text(encoding="utf-8")
    for shown in (
        "Trained on 1 image with 1 labelled object of 1 class (cat).", "Training: 1 label<", "1 validation image<",
        "<b>5 s</b>", "<span>training step</span>", "val.json: 1 image, 1 object<",
    ):  # fmt: skip
        assert shown in text


def test_tasks_on_label_maps_have_tables_of_their_metrics(tmp_path):
    results = {"sem_seg": {"mIoU": 61.25, "IoU-sky": 90.5}, "panoptic_seg": {"PQ": 40.0, "SQ": float("nan")}}
    (tmp_path / "evaluation.json").write_text(json.dumps({"results": results}))
    text = write_training_report(tmp_path).read_text(encoding="utf-8")
    assert "Label maps of validation data" in text
    assert all(shown in text for shown in ("61.2", "90.5", "40.0", "sky"))
    assert json.loads((tmp_path / "report.json").read_text())["results"]["panoptic_seg"]["SQ"] is None


def test_a_class_has_one_colour_on_both_sides():
    image = np.full((120, 160, 3), 128, np.uint8)
    metadata = Metadata(name="two").set(thing_classes=["a", "b"])
    box = [20.0, 30.0, 90.0, 100.0]
    for k in range(2):
        label = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": k}
        found = Instances((120, 160), pred_boxes=Boxes([box]), pred_classes=torch.tensor([k]))
        sides = draw_labels(image, {"annotations": [label]}, metadata), draw_instances(image, found, metadata)
        assert np.array_equal(*sides)
        other = Instances((120, 160), pred_boxes=Boxes([box]), pred_classes=torch.tensor([1 - k]))
        assert not np.array_equal(sides[0], draw_instances(image, other, metadata))


def test_a_batch_is_drawn_with_its_labels(tmp_path):
    targets = Instances((60, 80), gt_boxes=Boxes([[10.0, 10, 50, 40]]), gt_classes=torch.tensor([0]))
    seg = torch.zeros(60, 80, dtype=torch.long)
    batch = [
        {"image": torch.zeros(3, 60, 80, dtype=torch.uint8), "instances": targets},
        {"image": torch.zeros(3, 40, 90, dtype=torch.uint8), "sem_seg": seg[:40, :1].expand(40, 90)},
        {"image": torch.zeros(3, 60, 80, dtype=torch.uint8)},
        {"image": torch.zeros(5, 60, 80)},  # multispectral: not drawn
    ]
    draw_training_batch(
        batch, Metadata(name="m").set(thing_classes=["a"], stuff_classes=["s"]), "BGR", tmp_path
    )
    with Image.open(tmp_path / "pictures" / "train_batch.jpg") as picture:
        drawn = np.asarray(picture)
    assert drawn[:, : drawn.shape[1] // 3].max() > 60  # the box
    assert drawn.shape[1] < 4 * 800
    draw_training_batch(batch[3:], Metadata(name="n"), "BGR", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("batch", [[{"picture": 1}], [{"image": "abc"}], "no list", None])
def test_a_batch_that_cannot_be_drawn_does_not_end_the_training(tmp_path, monkeypatch, batch):
    said = []
    monkeypatch.setattr("detectron2.engine.hooks.report.logger.warning", lambda text, **_: said.append(text))
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("some_data",)
    hook = ReportWriter(0, str(tmp_path))
    hook.trainer = SimpleNamespace(iter=0, max_iter=9, loop=SimpleNamespace(batch=batch), cfg=cfg)
    hook.after_step()
    assert len(said) == isinstance(batch, list)
    assert not (tmp_path / "pictures").exists()


def test_pictures_are_light(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (420, 560, 3), dtype=np.uint8)
    save_row([noise], tmp_path / "noise.jpg")
    assert (tmp_path / "noise.jpg").stat().st_size <= 1.5 * MOST_BYTES  # nothing compresses noise


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_in_a_browser(run, width, scheme):
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    with opened(run / "report.html", width, scheme) as page:
        rows = {r["name"]: r for r in report["classes"]}
        lines = page.locator("table:has(th:text-is('F1')) tbody tr").all()
        assert len(lines) == len(rows) == 3
        for line in lines:
            cells = [c.strip() for c in line.locator("th, td").all_text_contents()]
            row = rows[cells[0]]
            keys = ("objects", "ap", "ap50", "ap75", "ar", "precision", "recall", "f1", "threshold")
            for cell, key in zip(cells[1:], keys, strict=True):
                assert cell == "–" if row[key] is None else float(cell) == pytest.approx(row[key], rel=6e-3)
        chart = page.locator("svg.lines").first
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 50)
        last = {name: report["training"][name][-1][1] for name in ("total_loss", "val/total_loss")}
        told = page.locator(".tip:visible").text_content()
        assert told == f"step 1199\ntraining {last['total_loss']:g}\nvalidation {last['val/total_loss']:g}"
        picture = page.locator(".open").last
        picture.click()
        large = page.locator("dialog img")
        assert large.evaluate("i => i.decode().then(() => i.width === i.naturalWidth && i.width > 600)")
        assert large.get_attribute("alt") == picture.locator("img").get_attribute("alt")
        page.keyboard.press("Escape")
        assert not large.is_visible()
