"""Hangul in file names, class names and label files, as Windows (cp949) and macOS (decomposed names) write them."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import formats as F
from detectron2.structures import BoxMode
from detectron2.utils.file_io.text import csv_encoding, decode_text

W, H = 40, 30
NAMES = ["동전", "ㄱ자 강판"]
TEXTS = (".json", ".txt", ".xml", ".yaml")


def dataset(folder: Path) -> F.Dataset:
    """Two pictures with a thing of each class."""
    folder.mkdir()
    records = []
    for number in range(2):
        file = folder / f"부품 {number}.png"
        Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(file)
        things = [
            {
                "bbox": [4.0 + 18 * c, 5.0, 16.0, 20.0],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": c,
                "iscrowd": 0,
            }
            for c in range(2)
        ]
        records.append(
            {"file_name": str(file), "image_id": number + 1, "height": H, "width": W, "annotations": things}
        )
    return F.Dataset(records, {"thing_classes": NAMES})


def as_windows_editor(folder: Path) -> int:
    """Save each text file again in cp949, with letters instead of escapes; return how many have Hangul."""
    count = 0
    for file in [f for f in folder.rglob("*") if f.suffix in TEXTS]:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            text = json.dumps(json.loads(text), ensure_ascii=False)
        file.write_bytes(text.encode("cp949"))
        count += not text.isascii()
    return count


@pytest.mark.parametrize("name", ["coco", "yolo", "voc", "labelme", "cvat", "dota"])
def test_label_files_in_cp949(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "학습 자료"

    F.write_dataset(dataset(tmp_path / "원본"), str(folder), name)
    assert as_windows_editor(folder)
    read = F.read_dataset(str(folder))
    assert not read.skipped
    names = (
        [n.replace(" ", "-") for n in NAMES] if name == "dota" else NAMES
    )  # a line of DOTA ends names at spaces
    assert sorted(read.classes) == sorted(names)
    assert sorted(Path(r["file_name"]).stem for r in read.records) == ["부품 0", "부품 1"]
    assert [len(r["annotations"]) for r in read.records] == [2, 2]


def test_classes_txt_in_cp949(tmp_path: Path) -> None:
    Image.new("RGB", (W, H)).save(tmp_path / "사진.jpg")
    (tmp_path / "사진.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "classes.txt").write_bytes("고양이\r\n강아지\r\n".encode("cp949"))
    read = F.read_dataset(str(tmp_path), "yolo")
    assert read.classes == ["고양이", "강아지"]
    assert read.records[0]["annotations"][0]["category_id"] == 1


@pytest.mark.parametrize("text", ["동전", "ㄱ자 강판", "저항 10Ω", "똠방각하", "면적 3㎡", "1번 부품(앞)"])
def test_korean_is_told_from_chinese(text: str) -> None:
    assert decode_text(text.encode("cp949")) == text


@pytest.mark.parametrize("name", ["coco", "yolo", "voc", "labelme", "cvat", "dota"])
def test_decomposed_file_names_of_macos(name: str, tmp_path: Path) -> None:
    """Archives packed on a Mac spell a syllable as two or three letters, which label files and Windows do not."""
    folder = tmp_path / "labels"
    F.write_dataset(dataset(tmp_path / "in"), str(folder), name)
    for file in [f for f in folder.rglob("*.png")]:
        file.rename(file.with_name(unicodedata.normalize("NFD", file.name)))
    read = F.read_dataset(str(folder))
    assert not read.skipped
    assert [len(r["annotations"]) for r in read.records] == [2, 2]


def test_text_is_utf8_whatever_the_code_page_of_the_system(tmp_path: Path) -> None:
    program = f"""
from detectron2.utils.file_io import PathManager
for mode in ("w", "a", "r"):
    with PathManager.open({str(tmp_path / "이름.txt")!r}, mode) as f:
        assert f.encoding == "utf-8", f.encoding
"""
    # Python warns where it would take the encoding of the system.
    options = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning:detectron2.utils.file_io.base"]
    subprocess.run([sys.executable, *options, "-c", program], check=True, timeout=120)


def test_a_config_in_cp949(tmp_path: Path) -> None:
    (tmp_path / "설정.yaml").write_bytes("# 작은 학습\nOUTPUT_DIR: 결과/부품\n".encode("cp949"))
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "설정.yaml"))
    assert cfg.OUTPUT_DIR == "결과/부품"


def test_tables_open_in_spreadsheets() -> None:
    assert csv_encoding(["동전", "coin"]) == "utf-8-sig"
    assert csv_encoding(["coin"]) == csv_encoding([]) == "utf-8"
