"""Layouts as tools ship them, the parts that they name, and what training takes of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectron2.cli.run.datasets import store
from detectron2.cli.run.model_fit import default_model
from detectron2.data import formats as F
from detectron2.data.formats.plan import image_groups
from detectron2.utils.file_io.text import decode_text

W, H = 40, 30


def picture(file: Path, shade: int = 90) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((H, W, 3), shade, np.uint8)).save(file)


def yolo(folder: Path, part: str, count: int) -> None:
    for i in range(count):
        picture(folder / part / "images" / f"{part}{i}.png")
        label = folder / part / "labels" / f"{part}{i}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text(f"{i % 2} 0.5 0.5 0.4 0.4\n")


def coco(file: Path, names: list[str], **label: object) -> dict:
    images = [{"id": n, "file_name": name, "width": W, "height": H} for n, name in enumerate(names, 1)]
    labels = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20], "iscrowd": 0} | label
        for n in range(1, len(names) + 1)
    ]
    content = {"images": images, "annotations": labels, "categories": [{"id": 1, "name": "coin"}]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return content


def sizes(plan: F.DataPlan) -> dict[str, int]:
    return {name: len(part.records) for name, part in plan.parts.items()}


@pytest.mark.parametrize("yaml", [True, False])
def test_the_test_part_is_never_trained(tmp_path: Path, yaml: bool) -> None:
    for part, count in (("train", 5), ("valid", 2), ("test", 3)):
        yolo(tmp_path, part, count)
    if yaml:
        lines = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [a, b]\n"
        (tmp_path / "data.yaml").write_text(lines)
    plan = F.plan_training(F.Source(str(tmp_path)))
    assert sizes(plan) == {"train": 5, "val": 2}
    assert "test" in plan.to_text()
    assert sizes(F.plan_data(F.Source(str(tmp_path)))) == {"train": 5, "val": 2, "test": 3}


def test_coco_files_of_both_years_are_parts(tmp_path: Path) -> None:
    for part, count in (("train2017", 3), ("val2017", 2)):
        names = [f"{part}{i}.png" for i in range(count)]
        for name in names:
            picture(tmp_path / part / name)
        coco(tmp_path / "annotations" / f"instances_{part}.json", names)
    assert sizes(F.plan_training(F.Source(str(tmp_path)))) == {"train": 3, "val": 2}


def test_the_same_folder_for_train_and_val_is_no_split(tmp_path: Path) -> None:
    yolo(tmp_path, "train", 6)
    (tmp_path / "data.yaml").write_text("train: train/images\nval: train/images\nnames: [a, b]\n")
    plan = F.plan_training(F.Source(str(tmp_path)))
    used = [{r["file_name"] for r in plan.parts[p].records} for p in ("train", "val")]
    assert not used[0] & used[1] and len(used[0] | used[1]) == 6


def test_images_that_belong_together_stay_together(tmp_path: Path) -> None:
    names = [f"{video}_frame_{i:03d}.png" for video in ("a", "b", "c", "d", "e") for i in range(4)]
    for name in names:
        picture(tmp_path / "images" / name)
    coco(tmp_path / "labels.json", names)
    plan = F.plan_training(F.Source(str(tmp_path)))
    videos = [{Path(r["file_name"]).name[0] for r in plan.parts[p].records} for p in ("train", "val")]
    assert not videos[0] & videos[1]
    assert "groups" in plan.origin
    assert image_groups([f"pic{i}.png" for i in range(9)]) == []


@pytest.mark.parametrize("name", ["images\\{}", "C:\\data\\{}", "/srv/x/images/{}", "../label/{}", "{}"])
def test_names_of_other_machines(tmp_path: Path, name: str) -> None:
    for i in range(2):
        picture(tmp_path / "images" / f"p{i}.png")
    coco(tmp_path / "labels.json", [name.format(f"P{i}.PNG") for i in range(2)])
    plan = F.plan_data(F.Source(str(tmp_path)))
    assert [Path(r["file_name"]).name for r in plan.parts["all"].records] == ["p0.png", "p1.png"]
    assert "image-moved" in plan.reports["all"].counts()
    picture(tmp_path / "images" / "twice" / "p0.png")
    picture(tmp_path / "images" / "other" / "p0.png")
    (tmp_path / "images" / "p0.png").unlink()
    assert "image-doubtful" in F.plan_data(F.Source(str(tmp_path))).reports["all"].counts()


def test_texts_in_other_encodings() -> None:
    for text, codec in (
        ("동전 타일", "cp949"),
        ("硬币", "gbk"),
        ("コイン", "shift_jis"),
        ("tile é", "utf-16"),
        ("coin", "utf-16-le"),
        ("동전 가 타일 é", "utf-16-le"),
        ("가\n가가\n", "utf-16-be"),
        ("一\r\n一一\r\n\u3000\u3000", "utf-16-le"),
        ('{"硬币": "タイル"}', "utf-16-be"),
    ):
        assert decode_text(text.encode(codec)) == text


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda a: a.update(bbox=[5 / W, 5 / H, 20 / W, 20 / H]), "boxes-kind"),
        (lambda a: a.update(bbox=[5, 5, 25, 25]), "boxes-kind"),
        (lambda a: a.update(iscrowd=1), "only-crowds"),
        (lambda a: a.update(iscrowd=None), "value-mended"),
        (lambda a: a.update(segmentation={"size": [H, W], "counts": [3, 4]}), "mask-broken"),
        (lambda a: a.update(segmentation=[[5, 5, 1e7, 5, 25, 25]]), "polygon-far"),
        (lambda a: a.update(image_id=str(a["image_id"])), "value-mended"),
    ],
)
def test_what_only_all_labels_show(tmp_path: Path, change, kind: str) -> None:
    names = [f"p{i}.png" for i in range(3)]
    for name in names:
        picture(tmp_path / "images" / name)
    content = coco(tmp_path / "labels.json", names, segmentation=[[5, 5, 25, 5, 25, 25, 5, 25]])
    assert F.plan_data(F.Source(str(tmp_path))).reports["all"].findings == []
    for label in content["annotations"]:
        change(label)
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert kind in F.plan_data(F.Source(str(tmp_path))).reports["all"].counts()


def test_the_model_follows_the_labels() -> None:
    assert default_model(F.LabelFacts(labels=4)) == "faster_rcnn_R_50_FPN_3x"
    assert default_model(F.LabelFacts(labels=4, masks=3)) == "mask_rcnn_R_50_FPN_3x"
    assert default_model(F.LabelFacts(labels=4, keypoints=4, num_keypoints=5)) == "keypoint_rcnn_R_50_FPN_3x"


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[F.Source, F.Source]:
    """A file with more images than are looked at, and one to validate on."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("detectron2.data.formats.sample._SAMPLE", 4)
    for name, count in (("train", 9), ("val", 2)):
        names = [f"{name}{i}.png" for i in range(count)]
        coco(tmp_path / name / "a.json", names)
        for file in names:
            picture(tmp_path / name / file)
    return F.Source(str(tmp_path / "train" / "a.json")), F.Source(str(tmp_path / "val" / "a.json"))


def edited(source: F.Source, change) -> None:
    content = json.loads(Path(source.path).read_text())
    change(content)
    Path(source.path).write_text(json.dumps(content))


def test_of_large_files_a_sample_is_checked(large, tmp_path: Path) -> None:
    train, val = large
    (tmp_path / "train" / "train1.png").unlink()  # not in the sample
    plan = F.plan_training(train, val, sample_above=8)
    assert sizes(plan) == {"train": 4, "val": 2} and plan.parts["train"].num_images == 9
    assert "9 images" in plan.to_text() and "of which 4 images" in plan.to_text()
    card = store(plan.parts["train"], "train", tmp_path / "run")
    assert card.json == train.path and (card.num_images, card.num_instances) == (9, 9)
    assert sizes(F.plan_training(train, val)) == {"train": 8, "val": 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["annotations"][0].update(image_id=77),
        lambda c: c["annotations"][0].update(bbox=[-90, -90, 2, 2]),
        lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3]]),
        lambda c: c["images"][1].update(id="two"),
    ],
)
def test_of_large_files_with_defects_all_is_checked(large, change) -> None:
    edited(large[0], change)
    plan = F.plan_training(*large, sample_above=8)
    assert plan.parts["train"].whole is None and "checked" not in plan.to_text()


def test_unknown_categories_of_large_files_are_errors(large) -> None:
    edited(large[0], lambda c: c["annotations"][1].update(category_id=5))
    with pytest.raises(ValueError, match="category_id 5"):
        F.plan_training(*large, sample_above=8)


def test_large_files_are_read_whole_to_divide_them(large) -> None:
    assert sum(sizes(F.plan_training(large[0], sample_above=8)).values()) == 9
    assert sizes(F.plan_training(*large, sample_above=9)) == {"train": 9, "val": 2}
