"""Label maps of a run: stored, and loaded as the records of each task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectron2.data.datasets import load_coco_json
from detectron2.data.formats import plan_training, read_dataset
from detectron2.data.formats.base import Dataset, FormatError
from detectron2.data.formats.pixels import PixelTask, load_pixels, store_pixels
from detectron2.data.formats.plan import Source, plan_validation
from detectron2.data.toys import STUFF, TOYS, write_toys
from detectron2.structures.rle import to_mask

CLASSES = [*TOYS, *STUFF]
IDS = list(range(1, 7))
JOINT = PixelTask("panoptic", CLASSES, IDS, 4)
SEPARATE = PixelTask("panoptic", CLASSES, IDS, 4, separate=True)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    write_toys(str(folder), {"train": 3, "val": 2})
    return folder


def labels_of(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def stored(toys: Path, task: PixelTask, prefix: Path, derive: bool = True) -> list[dict[str, object]]:
    dataset = read_dataset(str(toys / "train_panoptic.json"), images=str(toys / "train"))
    file = store_pixels(dataset, task, str(prefix), derive)
    return load_pixels(file, str(toys / "train"), task, str(prefix))


def test_one_numbering_keeps_segments(toys: Path, tmp_path: Path) -> None:
    records = stored(toys, JOINT, tmp_path / "labels" / "train")
    own = read_dataset(str(toys / "train_panoptic.json"), images=str(toys / "train")).records
    for record, wanted in zip(records, own, strict=True):
        labels = labels_of(str(record.pop("sem_seg_file_name")))
        rgb = labels_of(str(record["pan_seg_file_name"])).astype(int)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        for segment in wanted["segments_info"]:
            assert (labels[ids == segment["id"]] == segment["category_id"]).all()
        assert ((labels == 255) == (ids == 0)).all()
        assert record == wanted
    bare = stored(toys, JOINT, tmp_path / "bare" / "train", derive=False)
    assert all("sem_seg_file_name" not in r for r in bare)
    assert not (tmp_path / "bare" / "train_semantic").exists()


def test_separate_things_are_the_instances_of_the_toys(toys: Path, tmp_path: Path) -> None:
    records = stored(toys, SEPARATE, tmp_path / "train")
    instances = {r["file_name"]: r for r in load_coco_json(str(toys / "train.json"), str(toys / "train"))}
    for record in records:
        wanted = instances[str(record["file_name"])]
        size = wanted["height"], wanted["width"]
        found = record["annotations"]
        assert isinstance(found, list)
        assert "segments_info" not in record
        masks = [
            {(a["category_id"], to_mask(a["segmentation"], *size).tobytes()) for a in group}
            for group in (found, [{**a, "category_id": a["category_id"] - 1} for a in wanted["annotations"]])
        ]
        assert masks[0] == masks[1]
        assert all(a["iscrowd"] == 0 for a in found)
        labels = labels_of(str(record["sem_seg_file_name"]))
        stuff = labels_of(str(toys / "train_stuff" / f"{Path(str(record['file_name'])).stem}.png"))
        assert (labels == np.where(stuff == 255, 0, stuff + 1)).all()


def test_metadata_of_both_numberings() -> None:
    joint, separate = JOINT.metadata(), SEPARATE.metadata()
    assert joint["thing_classes"] == joint["stuff_classes"] == CLASSES
    assert joint["stuff_dataset_id_to_contiguous_id"] == {i + 1: i for i in range(6)}
    assert separate["thing_classes"] == list(TOYS)
    assert separate["stuff_classes"] == ["things", *STUFF]
    assert separate["stuff_dataset_id_to_contiguous_id"] == {0: 0, 5: 1, 6: 2}
    things = {i + 1: i for i in range(4)}
    assert (
        joint["thing_dataset_id_to_contiguous_id"] == separate["thing_dataset_id_to_contiguous_id"] == things
    )
    assert PixelTask("semantic", ["a", "b"]).metadata()["stuff_classes"] == ["a", "b"]


def test_panoptic_labels_serve_a_semantic_task(toys: Path, tmp_path: Path) -> None:
    task = PixelTask("semantic", CLASSES)
    records = stored(toys, task, tmp_path / "train", derive=False)
    assert set(records[0]) == {"file_name", "image_id", "height", "width", "sem_seg_file_name"}
    assert set(np.unique(labels_of(str(records[0]["sem_seg_file_name"])))) <= {*range(6), 255}
    assert not (tmp_path / "train_instances.json").exists()


def semantic(toys: Path, folder: Path) -> Path:
    for name, source in (("images", "train"), ("masks", "train_stuff")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(toys / source)
    (folder / "classes.txt").write_text("wall\ntable\n")
    return folder


def test_semantic_labels_are_referred_to(toys: Path, tmp_path: Path) -> None:
    plan = plan_training(Source(str(semantic(toys, tmp_path / "data"))))
    assert [len(plan.parts[name].records) for name in ("train", "val")] == [2, 1]
    task = PixelTask("semantic", plan.parts["train"].class_names)
    assert task.classes == list(STUFF)
    file = store_pixels(plan.parts["val"], task, str(tmp_path / "labels" / "val"), True)
    (record,) = load_pixels(file, "", task, str(tmp_path / "labels" / "val"))
    assert Path(record["sem_seg_file_name"]).parent == tmp_path / "data" / "masks"
    assert json.loads(Path(file).read_text())["records"] == [record]


def test_validation_has_the_classes_of_the_training(toys: Path, tmp_path: Path) -> None:
    source = Source(str(toys / "val_panoptic.json"), images=str(toys / "val"))
    assert plan_validation(source, CLASSES, IDS).parts["val"].class_names == CLASSES
    with pytest.raises(FormatError, match="expected ball, brick"):
        plan_validation(source, CLASSES[:-1], IDS[:-1])
    few = Dataset([{"sem_seg_file_name": "x"}], {"stuff_classes": ["0"]})
    assert few.class_names == ["0"]
