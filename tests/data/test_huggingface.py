"""Detection sets of Hugging Face datasets, saved to disk by that library."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detectron2.data import formats as F

datasets = pytest.importorskip("datasets")
if not hasattr(datasets, "load_from_disk"):  # a folder of that name in the working directory, not the library
    pytest.skip("Hugging Face datasets is not installed", allow_module_level=True)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.disable_progress_bars()
    monkeypatch.setattr(logging.getLogger("datasets"), "disabled", True)


def pictures() -> list[Image.Image]:
    return [Image.fromarray(np.full((20, 30 + i, 3), 40 * i, np.uint8)) for i in range(3)]


BOXES = [[[1.0, 2.0, 10.0, 5.0], [4.0, 4.0, 6.0, 6.0]], [], [[0.0, 0.0, 30.0, 20.0]]]
CLASSES = [[1, 0], [], [1]]


def table(listed: bool, label: Any) -> Any:
    """As most sets on the hub: objects as a dict of lists, or as a list of dicts."""
    if listed:
        box = datasets.Sequence(datasets.Value("float32"), length=4)
        feature: Any = [{"bbox": box, "category": label}]
        objects: Any = [
            [{"bbox": b, "category": c} for b, c in zip(boxes, classes)]
            for boxes, classes in zip(BOXES, CLASSES)
        ]
    else:
        inner = {"bbox": datasets.Sequence(datasets.Value("float32"), length=4), "category": label}
        feature = datasets.Sequence(inner)
        objects = [{"bbox": b, "category": c} for b, c in zip(BOXES, CLASSES)]
    features = {"image_id": datasets.Value("int64"), "image": datasets.Image(), "objects": feature}
    columns = {"image_id": [7, 8, 9], "image": pictures(), "objects": objects}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.mark.parametrize("listed", [False, True])
def test_a_saved_folder_is_read(tmp_path: Path, listed: bool) -> None:
    table(listed, datasets.ClassLabel(names=["nut", "bolt"])).save_to_disk(tmp_path / "set")
    assert F.detect_format(tmp_path / "set") == "huggingface"
    data = F.read_dataset(tmp_path / "set", images=str(tmp_path / "images"))
    assert data.classes == ["nut", "bolt"] and not data.skipped
    assert [r["image_id"] for r in data.records] == [7, 8, 9]
    assert [(r["height"], r["width"]) for r in data.records] == [(20, 30), (20, 31), (20, 32)]
    assert [[a["bbox"] for a in r["annotations"]] for r in data.records] == [
        [[1, 2, 11, 7], [4, 4, 10, 10]], [], [[0, 0, 30, 20]],
    ]  # fmt: skip
    assert [[a["category_id"] for a in r["annotations"]] for r in data.records] == CLASSES
    for record, picture in zip(data.records, pictures()):
        assert Path(record["file_name"]).parent == tmp_path / "images"
        assert np.array_equal(np.asarray(Image.open(record["file_name"])), np.asarray(picture))
    assert F.check_dataset(data).ok
    corners = F.read_dataset(tmp_path / "set", images=str(tmp_path / "images"), bbox_format="xyxy")
    assert corners.records[0]["annotations"][1]["bbox"] == [4, 4, 6, 6]


def test_a_name_that_is_no_folder_comes_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched here: the library's own function for it is replaced by one that has the same arguments."""
    asked = []

    def load_dataset(path: str, *, split: str) -> Any:
        asked.append((path, split))
        return table(False, datasets.ClassLabel(names=["nut", "bolt"]))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    images = str(tmp_path / "images")
    data = F.read_dataset("somebody/parts", "huggingface", images=images)
    F.read_dataset("somebody/parts", "huggingface", images=images, split="validation[:10%]")
    assert asked == [("somebody/parts", "train"), ("somebody/parts", "validation[:10%]")]
    assert data.classes == ["nut", "bolt"] and [r["image_id"] for r in data.records] == [7, 8, 9]


def test_plain_numbers_splits_and_errors(tmp_path: Path) -> None:
    plain = table(False, datasets.Value("int64"))
    folder, images = tmp_path / "set", str(tmp_path / "images")
    datasets.DatasetDict({"val": plain, "test": plain}).save_to_disk(folder)
    data = F.read_dataset(folder, images=images, split="val")
    assert data.classes == ["0", "1"] and len(data.records) == 3
    assert F.read_dataset(folder, images=images, split="val", names=["x", "y"]).classes == ["x", "y"]
    with pytest.raises(F.FormatError, match="val, test"):
        F.read_dataset(folder, images=images)
    with pytest.raises(F.FormatError, match="no split 'none'"):
        F.read_dataset(folder, images=images, split="none")
    with pytest.raises(F.FormatError, match="class 1 is not among"):
        F.read_dataset(folder, images=images, split="val", names=["x"])
    with pytest.raises(ValueError, match="bbox_format"):
        F.read_dataset(folder, images=images, bbox_format="cxcywh")
    plain.remove_columns("objects").save_to_disk(tmp_path / "bare")
    with pytest.raises(F.FormatError, match="no column with objects"):
        F.read_dataset(tmp_path / "bare", images=images)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    table(False, datasets.ClassLabel(names=["nut", "bolt"])).save_to_disk(tmp_path / "a")
    first = F.read_dataset(tmp_path / "a", images=str(tmp_path / "i"))
    F.write_dataset(first, tmp_path / "b", "huggingface")
    again = F.read_dataset(tmp_path / "b", images=str(tmp_path / "j"))
    assert [r["annotations"] for r in again.records] == [r["annotations"] for r in first.records]
    assert again.classes == first.classes and not first.skipped
    for a, b in zip(first.records, again.records):
        assert Path(a["file_name"]).read_bytes() == Path(b["file_name"]).read_bytes()


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"detectron2\[datasets\]"):
        F.read_dataset(tmp_path, "huggingface")
