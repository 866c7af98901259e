"""A training on folders, files, classes and labels named in Hangul, as a Korean Windows writes them."""

import codecs
import csv
import io
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detectron2.cli import main

from .conftest import TINY

NAMES = ["동전", "ㄱ자 강판"]
W, H = 80, 64

Boxes = list[tuple[int, int, int, int]]


def labelme(image: Path, boxes: Boxes) -> None:
    """One JSON file of polygons beside the image."""
    shapes = [
        {"label": name, "shape_type": "polygon", "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}
        for name, (x0, y0, x1, y1) in zip(NAMES, boxes)
    ]
    content = {"imagePath": image.name, "imageHeight": H, "imageWidth": W, "shapes": shapes}
    image.with_suffix(".json").write_bytes(json.dumps(content, ensure_ascii=False).encode("cp949"))


def yolo(image: Path, boxes: Boxes) -> None:
    """Lines of outlines beside the image, and the names in ``classes.txt``."""
    lines = []
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        outline = np.array([x0, y0, x1, y0, x1, y1, (x0 + x1) / 2, y1, x0, y1]).reshape(-1, 2) / [W, H]
        lines.append(" ".join(map(str, [number, *outline.ravel().tolist()])))
    image.with_suffix(".txt").write_text("\n".join(lines))
    (image.parent / "classes.txt").write_bytes("\r\n".join(NAMES).encode("cp949"))


def voc(image: Path, boxes: Boxes) -> None:
    """One XML file that declares its encoding beside the image."""
    text = f"<filename>{image.name}</filename><size><width>{W}</width><height>{H}</height></size>"
    for name, (x0, y0, x1, y1) in zip(NAMES, boxes):
        box = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        text += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
    text = f'<?xml version="1.0" encoding="euc-kr"?><annotation>{text}</annotation>'
    image.with_suffix(".xml").write_bytes(text.encode("cp949"))


def draw_pictures(folder: Path, write_label: Callable[[Path, Boxes], None]) -> None:
    folder.mkdir()
    for number in range(4):
        picture = Image.new("RGB", (W, H), "white")
        boxes = [(10 + number, 14, 34 + number, 44), (48, 18, 70, 40 + number)]
        for box, colour in zip(boxes, ("red", "blue")):
            ImageDraw.Draw(picture).rectangle(box, fill=colour)
        file = folder / f"부품 {number}.jpg"
        picture.save(file)
        write_label(file, boxes)


@pytest.mark.parametrize(("code_page", "shown"), [("cp949", "ㄱ자 강판, 동전"), ("cp1252", "?? ??, ??")])
def test_terminals_of_any_code_page(
    code_page: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_pictures(tmp_path / "사진", labelme)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=code_page))
    assert main(["data", "check", str(tmp_path / "사진")]) == 0
    assert f"Classes (2): {shown}" in printed.getvalue().decode(code_page)


@pytest.mark.slow
@pytest.mark.parametrize("write_label", [labelme, yolo, voc])
def test_train_eval_and_predict(
    write_label: Callable[[Path, Boxes], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("noto_cjk_sans_jp_regular", reason="pip install 'detectron2[fonts]'")
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.WARNING, logger="detectron2.visualization")
    draw_pictures(Path("사진"), write_label)
    Path("설정.yaml").write_text("# 작은 모델\n" + TINY, encoding="utf-8")

    assert main(["data", "check", "사진"]) == 0
    mask = ["MODEL.MASK_ON", str(write_label is not voc)]
    start = ["train", "--train", "사진", "--model", "설정.yaml", "--weights", "none", "--output", "실행/부품"]
    assert main([*start, "--workers", "0", "--device", "cpu", *mask]) == 0
    run = Path("실행/부품")
    assert sorted(json.loads((run / "run.json").read_text())["classes"]) == sorted(NAMES)
    rows = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert np.isfinite([row["total_loss"] for row in rows if "total_loss" in row]).all()
    assert main(["eval", "실행/부품", "--data", "사진", "--device", "cpu"]) == 0
    for report in (run / "report.html", run / "eval/report.html"):
        page = report.read_text(encoding="utf-8")
        assert all(name in page for name in [*NAMES, "부품 0.jpg" if "eval" in report.parts else "부품 "])

    for table in (run / "classes.csv", run / "eval/classes.csv"):
        assert table.read_bytes().startswith(codecs.BOM_UTF8)  # without it, Excel reads the names as cp949
        with table.open(encoding="utf-8-sig", newline="") as file:
            assert sorted(row["name"] for row in csv.DictReader(file)) == sorted(NAMES)

    assert (
        main(["predict", "실행/부품", "사진", "--output", "결과", "--threshold", "0", "--device", "cpu"]) == 0
    )
    predictions = json.loads(Path("결과/predictions.json").read_text())
    assert [p["picture"] for p in predictions] == [f"부품 {n}.jpg" for n in range(4)]
    found = {thing["class"] for p in predictions for thing in p["objects"]}
    assert found and found <= set(NAMES)
    for n in range(4):
        with Image.open(f"결과/부품 {n}.jpg") as drawn:  # enlarged, so that labels can be read
            assert drawn.width * H == drawn.height * W
    assert not [r for r in caplog.records if "No font" in r.getMessage()]
