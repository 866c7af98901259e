"""The check before the first step: each defect is found, named with file and annotation, and can be left out."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectron2.data import formats as F
from detectron2.data import health
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode

H, W = 40, 60


def picture(seed: int, height: int = H, width: int = W) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def annotation(number: int, image: int, **changes: object) -> dict:
    base = {
        "id": number, "image_id": image, "category_id": 7, "bbox": [5, 5, 20, 10], "area": 200, "iscrowd": 0,
        "segmentation": [[5, 5, 25, 5, 25, 15]],
    }  # fmt: skip
    return {**base, **changes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four whole images and a sound file about them."""
    (tmp_path / "images").mkdir()
    for i in range(4):
        picture(i).save(tmp_path / "images" / f"{i}.jpg")
    return tmp_path


def content() -> dict:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": H, "width": W} for i in range(4)],
        "categories": [{"id": 7, "name": "nut"}, {"id": 9, "name": "bolt"}],
        "annotations": [annotation(i + 1, i) for i in range(4)],
    }


def check(folder: Path, data: dict, **kwargs: object) -> health.HealthReport:
    (folder / "a.json").write_text(json.dumps(data))
    return health.check_coco_json(str(folder / "a.json"), str(folder / "images"), **kwargs)


def test_sound_data_have_no_findings(folder: Path) -> None:
    report = check(folder, content(), images="decode")
    assert report.ok and not report.findings
    assert (report.num_images, report.num_annotations) == (4, 4)
    assert "no defects" in report.to_text()


@pytest.mark.parametrize(
    ("change", "kind", "severity"),
    [
        ({"category_id": 8}, "category-unknown", "error"),
        ({"category_id": None}, "category-unknown", "error"),
        ({"bbox": [5, 5, 0, 10]}, "box-empty", "skip"),
        ({"bbox": [5, 5, -3, 10]}, "box-empty", "skip"),
        ({"bbox": []}, "box-empty", "skip"),
        ({"bbox": [], "segmentation": []}, "box-missing", "skip"),
        ({"bbox": [100, 5, 20, 10]}, "box-outside", "skip"),
        ({"bbox": [50, 5, 20, 10]}, "box-beyond", "note"),
        ({"bbox": [float("nan"), 5, 20, 10]}, "box-not-finite", "skip"),
        ({"bbox": [1, 2, 3]}, "box-not-finite", "skip"),
        ({"segmentation": [[5, 5, 25, 5]]}, "polygon-short", "skip"),
        ({"segmentation": [[5, 5, 25, 5, 25, 15, 3]]}, "polygon-odd", "skip"),
        ({"segmentation": {"size": [W, H], "counts": [H * W]}}, "mask-size", "skip"),
        ({"keypoints": [1, 2]}, "keypoints-count", "skip"),
        ({"image_id": 99}, "annotation-stray", "skip"),
        ({"id": 1}, "annotation-id-duplicate", "skip"),
    ],
)
def test_each_defect_of_an_annotation(folder: Path, change: dict, kind: str, severity: str) -> None:
    data = content()
    data["annotations"][2] = annotation(3, 2, **{"id": 3, **change})
    report = check(folder, data, images="none")
    found = [f for f in report.findings if f.kind == kind]
    assert len(found) == 1
    assert found[0].severity == severity
    assert found[0].annotation == change.get("id", 3)
    if kind not in ("annotation-stray", "annotation-id-duplicate"):
        assert found[0].file.endswith("2.jpg")
    assert str(found[0].annotation) in str(found[0])
    if severity == "error":
        with pytest.raises(health.DataError, match=r"2\.jpg, annotation 3"):
            report.raise_for_errors()


def test_each_defect_of_an_image(folder: Path) -> None:
    images = folder / "images"
    (images / "0.jpg").unlink()
    whole = (images / "1.jpg").read_bytes()
    (images / "1.jpg").write_bytes(whole[: len(whole) // 2])
    exif = Image.Exif()
    exif[274] = 6
    picture(2).save(images / "2.jpg", exif=exif)
    picture(3, H + 1, W).save(images / "3.jpg")
    for how in ("header", "decode"):
        report = check(folder, content(), images=how)
        assert report.counts() == {"image-missing": 1, "image-broken": 1, "image-size": 1, "image-exif": 1}
        assert report.ok
    exists = check(folder, content(), images="exists")
    assert exists.counts() == {"image-missing": 1}


def test_a_turned_picture_with_the_size_as_shown_is_sound(folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    picture(2).save(folder / "images" / "2.jpg", exif=exif)
    data = content()
    data["images"][2].update(height=W, width=H)
    assert not check(folder, data).findings


def test_whole_file_defects(folder: Path) -> None:
    data = content()
    assert check(folder, {**data, "annotations": []}).counts() == {"no-annotations": 1}
    assert check(folder, {**data, "images": [], "annotations": []}).counts() == {"no-images": 1}
    assert check(folder, {"images": [{"id": 1}]}).counts() == {"malformed": 2}
    twice = {**data, "images": [*data["images"], data["images"][0]]}
    assert check(folder, twice, images="none").counts()["image-id-duplicate"] == 1
    for path in (folder / "images").iterdir():
        path.unlink()
    report = check(folder, data)
    assert report.counts() == {"all-images-missing": 1}
    (folder / "a.json").write_text("{")
    with pytest.raises(ValueError, match="JSON"):
        health.check_coco_json(str(folder / "a.json"), str(folder / "images"))


def test_what_training_gets_is_sound_and_the_original_untouched(folder: Path) -> None:
    data = content()
    (folder / "images" / "3.jpg").unlink()
    data["annotations"] += [
        annotation(5, 0, bbox=[5, 5, 0, 0]),
        annotation(6, 1, segmentation=[[1, 1, 2, 2], [5, 5, 25, 5, 25, 15]]),
        annotation(1, 1),
        annotation(8, 1234),
    ]
    text = json.dumps(data)
    (folder / "a.json").write_text(text)
    source = F.Source(str(folder / "a.json"), images=str(folder / "images"))
    plan = F.plan_training(source, source)
    assert (folder / "a.json").read_text() == text
    kinds = {f.kind for f in plan.reports["train"].findings}
    assert {
        "box-empty",
        "polygon-short",
        "annotation-id-duplicate",
        "annotation-stray",
        "image-missing",
    } <= kinds
    F.write_dataset(plan.parts["train"], folder / "out", "coco", copy_images=False)
    mended = json.loads((folder / "out" / "annotations.json").read_text())
    assert len(mended["images"]) == 3
    ids = [a["id"] for a in mended["annotations"]]
    assert len(set(ids)) == len(ids)
    assert health.check_coco_json(str(folder / "out" / "annotations.json"), str(folder)).ok


def test_records_are_repaired_without_being_changed(folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps(content()))
    records = load_coco_json(str(folder / "a.json"), str(folder / "images"), "health_test")
    records[1]["annotations"].append({**records[1]["annotations"][0], "bbox": [500.0, 5, 3, 3]})
    records[2]["annotations"][0]["segmentation"] = [[1, 2]]
    (folder / "images" / "3.jpg").unlink()
    before = copy.deepcopy(records)
    report = health.check_dataset_dicts(records, 2)
    assert report.counts() == {"image-missing": 1, "box-outside": 1, "polygon-short": 1}
    mended = health.repair(records, report)
    assert records == before
    assert [len(r["annotations"]) for r in mended] == [1, 1, 0]
    assert mended[0] is records[0]
    assert health.check_dataset_dicts(mended, 2).counts() == {"image-unlabelled": 1}


def test_records_out_of_range_and_empty() -> None:
    record = {"file_name": "x.jpg", "image_id": 1, "height": H, "width": W}
    record["annotations"] = [{"bbox": [1, 1, 5, 5], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 3}]
    report = health.check_dataset_dicts([record], 3, images="none")
    assert [f.kind for f in report.errors] == ["category-unknown"]
    assert health.check_dataset_dicts([record], 4, images="none").ok
    assert [f.kind for f in health.check_dataset_dicts([]).errors] == ["no-images"]
    nothing = [{**record, "annotations": []}]
    assert [f.kind for f in health.check_dataset_dicts(nothing, images="none").errors] == ["no-annotations"]


def test_report_as_plain_values(folder: Path) -> None:
    data = content()
    data["annotations"][0]["bbox"] = [5, 5, 0, 10]
    report = check(folder, data).to_dict()
    assert json.loads(json.dumps(report)) == report
    assert report["findings"][0]["annotation"] == 1 and report["findings"][0]["mend"]


def test_copies_and_leakage(tmp_path: Path) -> None:
    def smooth(seed: int) -> Image.Image:
        return picture(seed, 9, 12).resize((240, 180), Image.Resampling.BICUBIC)

    for i in range(6):
        smooth(i).save(tmp_path / f"{i}.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "1.png").read_bytes())
    smooth(4).resize((120, 90)).save(tmp_path / "small.jpg", quality=80)
    records = {n: [{"file_name": str(tmp_path / f)} for f in files] for n, files in {
        "train": ["0.png", "1.png", "2.png", "4.png"], "val": ["3.png", "copy.png", "small.jpg", "2.png"],
    }.items()}  # fmt: skip
    assert health.find_duplicates(records["train"] + records["val"]) == [
        [str(tmp_path / "1.png"), str(tmp_path / "copy.png")]
    ]
    found = {(Path(d["file_a"]).name, Path(d["file_b"]).name): d["how"] for d in health.find_leakage(records)}
    assert found == {
        ("1.png", "copy.png"): "bytes",
        ("2.png", "2.png"): "file",
        ("4.png", "small.jpg"): "looks",
    }


def test_statistics() -> None:
    box = {"bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    records = [
        {"height": 10, "width": 20, "annotations": [
            {**box, "category_id": 0, "bbox": [0, 0, 10, 10]},
            {**box, "category_id": 0, "bbox": [0, 0, 50, 50], "segmentation": [[0, 0, 1, 0, 1, 1]]},
            {**box, "category_id": 2, "bbox": [0, 0, 100, 100], "bbox_mode": BoxMode.XYWH_ABS},
        ]},
        {"height": 30, "width": 20, "annotations": []},
    ]  # fmt: skip
    s = health.dataset_statistics(records, ["a", "b", "c"])
    assert s["object_sizes"] == {"small": 1, "medium": 1, "large": 1}
    assert [c["annotations"] for c in s["classes"]] == [2, 0, 1]
    assert [c["images"] for c in s["classes"]] == [1, 0, 1]
    assert (s["imbalance"], s["unused_classes"], s["num_unlabelled"]) == (2.0, ["b"], 1)
    assert s["labels"] == {"box only": 2, "polygon": 1}
    assert s["image_height"]["max"] == 30 and health.dataset_statistics([])["num_images"] == 0
