"""Damaged labels of every format: the reader and the check answer in a line that names the file, or read the rest."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectron2.data import formats as F
from detectron2.data.health import DataError
from detectron2.structures import BoxMode

W, H = 40, 30
VALUES = [
    None,
    True,
    -1,
    0,
    1e308,
    10**30,
    float("nan"),
    "",
    "x",
    "9" * 400,
    "\0",
    [],
    {},
    [[]],
    [1, 2, 3],
    {"a": 1},
]
SKELETON = (
    '<skeleton label="coin"><points label="a" points="5,6" occluded="1" outside="0"/>'
    '<points label="b" points="9.5,16" occluded="0" outside="0"/></skeleton>'
)
ENDINGS = (".json", ".xml", ".txt", ".yaml")


def _write(folder: Path, name: str) -> None:
    """Write a valid data set of two images."""
    records = []
    for i in range(2):
        file = folder.parent / f"{name}_{i}.png"
        Image.fromarray(np.full((H, W, 3), 40 * i + 9, np.uint8)).save(file)
        box = [3.0 + i, 4.0, 20.0, 21.0]
        anno = {"category_id": i, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
        if name not in ("voc", "dota"):
            anno["segmentation"] = [[3.0 + i, 4, 20, 4, 20, 21, 3.0 + i, 21]]
        records.append(
            {"file_name": str(file), "image_id": i + 1, "height": H, "width": W, "annotations": [anno]}
        )
    F.write_dataset(F.Dataset(records, {"thing_classes": ["coin", "tile"]}), folder, name)
    if name == "cvat":
        file = folder / "annotations.xml"
        file.write_text(file.read_text().replace("</image>", SKELETON + "</image>", 1))


def _labels(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.suffix in ENDINGS)


def _bytes(rng: random.Random, data: bytes) -> bytes:
    """Cut, repeat, flip, put in, or save in another encoding."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.randrange(1, 40))
    how = rng.randrange(6)
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + data[at:end] * 3 + data[end:]
    if how == 2:
        return data[:at] + bytes(rng.randrange(256) for _ in range(end - at)) + data[end:]
    if how == 3:
        return (
            data[:at]
            + rng.choice([b"nan", b"-1", b"1e999", b"[" * 2000, b"<a>", b"\xff\xfe", b"\0", b"&x;"])
            + data[at:]
        )
    if how == 4:
        return data.decode().encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"]))
    return data[:at] + data[end:]


def _structure(rng: random.Random, value: object) -> object:
    """Replace, remove or repeat one entry somewhere in JSON."""
    holder = value
    while isinstance(holder, (dict, list)) and holder:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = rng.choice(keys)
        inner = holder[key]  # type: ignore[index]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.75:
            holder = inner
            continue
        how = rng.randrange(3)
        if how == 0:
            del holder[key]  # type: ignore[arg-type]
        elif how == 1 and isinstance(holder, list):
            holder.append(inner)
        else:
            holder[key] = rng.choice(VALUES)  # type: ignore[index]
        break
    return value


def _damage(rng: random.Random, file: Path) -> None:
    data = file.read_bytes()
    if file.suffix == ".json" and rng.random() < 0.7:
        file.write_text(json.dumps(_structure(rng, json.loads(data))))
    else:
        file.write_bytes(_bytes(rng, data))


def _answers(folder: Path, kind: str, damaged: Path) -> None:
    """Read and check as the command line does, without and with the name of the format."""
    source = F.Source(str(folder), kind)
    for call in (lambda: F.plan_data(F.Source(str(folder))), lambda: F.plan_training(source, source)):
        _answer(call, folder, damaged)


def _answer(call: Callable[[], F.DataPlan], folder: Path, damaged: Path) -> None:
    said = ""
    try:
        plan = call()
    except (F.FormatError, DataError, OSError) as error:
        said = str(error)
    else:
        said = f"{folder} {plan.health()} {plan.to_text()}"
    assert str(folder) in said, (said, damaged)


def _run(tmp_path: Path, inputs: int, seed: int) -> None:
    kinds = ("coco", "yolo", "voc", "labelme", "cvat", "dota", "coco_panoptic")
    for kind in kinds:
        _write(tmp_path / kind, kind)
    files = [(kind, f) for kind in kinds for f in _labels(tmp_path / kind)]
    rng = random.Random(seed)
    for number in range(inputs):
        kind, file = files[number % len(files)]
        whole = file.read_bytes()
        for _ in range(rng.randrange(1, 4)):
            try:
                _damage(rng, file)
            except (ValueError, RecursionError):  # the damage before has left no JSON or text
                break
        left = file.read_bytes()
        try:
            _answers(tmp_path / kind, kind, file)
        except BaseException:
            print(f"input {number} of seed {seed}, {file}: {left[:2000]!r}")
            raise
        file.write_bytes(whole)


def test_damaged_labels_are_answered(tmp_path: Path) -> None:
    _run(tmp_path, 200, seed=1)


@pytest.mark.slow
def test_many_damaged_labels_are_answered(tmp_path: Path) -> None:
    _run(tmp_path, 2000, seed=2)
