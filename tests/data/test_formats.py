"""Label formats: each reads what its own tools write, and what this package writes comes back the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import formats as F
from detectron2.data.catalog import forget
from detectron2.data.formats.base import rotated_box_of, rotated_corners
from detectron2.data.formats.semantic import instances_of_mask
from detectron2.data.health import DataError
from detectron2.structures import BoxMode
from detectron2.structures.rle import encode, to_mask

H, W = 40, 60


@pytest.fixture
def dataset(tmp_path: Path) -> F.Dataset:
    """Three pictures: polygons, a mask with a hole of background, nothing."""
    (tmp_path / "in").mkdir()
    records = []
    for i in range(3):
        file = tmp_path / "in" / f"p{i}.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (H, W, 3), dtype=np.uint8)).save(file)
        records.append({"file_name": str(file), "image_id": i, "height": H, "width": W, "annotations": []})
    base = {"bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    records[0]["annotations"] = [
        {
            **base,
            "category_id": 1,
            "bbox": [2.0, 3.0, 20.5, 13.0],
            "segmentation": [[2.0, 3, 20.5, 3, 20.5, 13, 11, 13]],
        },
        {
            **base,
            "category_id": 0,
            "bbox": [30.0, 5.0, 50.0, 35.0],
            "segmentation": [[30.0, 5, 50, 5, 40, 35]],
        },
    ]
    mask = np.zeros((H, W), np.uint8)
    mask[10:30, 5:25] = 1
    records[1]["annotations"] = [
        {**base, "category_id": 2, "bbox": [5.0, 10.0, 25.0, 30.0], "segmentation": encode(mask)}
    ]
    return F.Dataset(records, {"thing_classes": ["nut", "bolt", "blue screw"]})


def boxes(dataset: F.Dataset) -> list[list[tuple]]:
    from detectron2.data.formats import base as _base

    names = dataset.classes
    return [
        sorted((names[a["category_id"]], *np.round(_base.bbox_xyxy(a), 3)) for a in r["annotations"])
        for r in dataset.records
    ]


def masks(dataset: F.Dataset) -> list[np.ndarray]:
    return [to_mask(a["segmentation"], H, W) for r in dataset.records for a in r["annotations"]]


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme", "cvat", "coco", "dota"])
def test_what_is_written_comes_back(dataset, tmp_path, name) -> None:
    F.write_dataset(dataset, tmp_path / "out", name)
    assert not dataset.skipped
    assert F.detect_format(tmp_path / "out") == name
    options = {"task": "segment"} if name == "yolo" else {}
    again = F.read_dataset(tmp_path / "out", **options)
    assert not again.skipped
    wanted = boxes(dataset)
    if name == "dota":
        wanted = [[(n.replace(" ", "-"), *rest) for n, *rest in rows] for rows in wanted]
    assert boxes(again) == wanted
    assert [(r["height"], r["width"]) for r in again.records] == [(H, W)] * 3
    for a, b in zip(dataset.records, again.records):
        assert np.array_equal(np.asarray(Image.open(a["file_name"])), np.asarray(Image.open(b["file_name"])))
    if name in ("labelme", "cvat", "coco"):
        key = lambda m: int(m.sum())  # noqa: E731
        for a, b in zip(sorted(masks(dataset), key=key), sorted(masks(again), key=key), strict=True):
            assert np.count_nonzero(a != b) <= (2 if name == "labelme" else 0)
    with pytest.raises(FileExistsError):
        F.write_dataset(dataset, tmp_path / "out", name)


def test_every_pair_of_formats_converts(dataset, tmp_path) -> None:
    F.write_dataset(dataset, tmp_path / "coco", "coco")
    wanted = boxes(dataset)
    before = "coco"
    for after in ("labelme", "cvat", "voc", "coco"):
        F.convert_dataset(tmp_path / before, tmp_path / f"{after}2", after)
        assert boxes(F.read_dataset(tmp_path / f"{after}2")) == wanted
        before = f"{after}2"


def test_yolo_objects_of_several_parts(dataset, tmp_path) -> None:
    """YOLO has one outline for an object: the parts are joined by lines without area."""
    parts = [
        [4.0, 4, 16, 4, 16, 14, 4, 14],
        [24.0, 10, 34, 10, 34, 30, 24, 30],
        [40.0, 6, 52, 6, 52, 20, 40, 20],
    ]
    everything = {
        "bbox": [4.0, 4.0, 52.0, 30.0],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 1,
        "iscrowd": 0,
    }
    for record in dataset.records:
        record["annotations"] = []
    dataset.records[0]["annotations"] = [{**everything, "segmentation": parts}]
    F.write_dataset(dataset, tmp_path / "out", "yolo", task="segment")
    assert not dataset.skipped
    (again,) = F.read_dataset(tmp_path / "out", task="segment").records[0]["annotations"]
    assert len(again["segmentation"]) == 1 and again["bbox"] == pytest.approx(everything["bbox"])
    drawn = Image.new("1", (W, H))
    brush = ImageDraw.Draw(drawn)
    for part in parts:
        brush.polygon(part, fill=1)
    joined = Image.new("1", (W, H))
    ImageDraw.Draw(joined).polygon(again["segmentation"][0], fill=1)
    # Pillow paints the two bridges as lines of one pixel.
    assert not (np.asarray(drawn) & ~np.asarray(joined)).any()
    assert to_mask(again["segmentation"], H, W).sum() == pytest.approx(to_mask(parts, H, W).sum(), abs=40)
    points = np.reshape(again["segmentation"][0], (-1, 2))
    x, y = points.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert area == pytest.approx(12 * 10 + 10 * 20 + 12 * 14, abs=1e-3)


def test_yolo_pose_and_obb(dataset, tmp_path) -> None:
    for r in dataset.records:
        r["annotations"] = []
    points = [10.0, 12.0, 2.0, 0.0, 0.0, 0.0, 15.0, 20.0, 1.0]
    base = {"bbox": [5.0, 6.0, 25.0, 30.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 0}
    dataset.records[0]["annotations"] = [{**base, "keypoints": points}]
    dataset.metadata |= {
        "keypoint_names": ["nose", "left", "right"],
        "keypoint_flip_map": [("left", "right")],
    }
    F.write_dataset(dataset, tmp_path / "pose", "yolo")
    again = F.read_dataset(tmp_path / "pose")
    assert again.records[0]["annotations"][0]["keypoints"] == pytest.approx(points, abs=1e-4)
    assert again.metadata["keypoint_flip_map"] == [("keypoint_1", "keypoint_2")]
    turned = [30.0, 20.0, 16.0, 8.0, 30.0]
    dataset.records[0]["annotations"] = [{**base, "bbox": turned, "bbox_mode": BoxMode.XYWHA_ABS}]
    for name, options in (("yolo", {"task": "obb"}), ("dota", {}), ("cvat", {})):
        F.write_dataset(dataset, tmp_path / name, name)
        (anno,) = F.read_dataset(tmp_path / name, name, **options).records[0]["annotations"]
        assert anno["bbox"][:4] == pytest.approx(turned[:4], abs=1e-3)
        assert (anno["bbox"][4] - 30) % 360 == pytest.approx(0, abs=1e-3) or (
            anno["bbox"][4] - 30
        ) % 360 == pytest.approx(360, abs=1e-3)


@pytest.mark.parametrize("angle", [0, 30, 90, -45, 179, -179])
def test_corners_and_rotated_boxes_are_inverse(angle) -> None:
    box = [30.0, 20.0, 16.0, 8.0, float(angle)]
    assert rotated_box_of(rotated_corners(box)) == pytest.approx(box, abs=1e-9)
    corners = rotated_corners([0, 0, 2, 0, 90.0])
    # A quarter turn counter-clockwise on the screen takes the right end to the top.
    assert corners[1] == pytest.approx([0, -1], abs=1e-9)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("0 a 1 1 1", "class number"),
        ("0.5 1 1 1 1", "class number"),
        ("0 0.5 0.5", "class number"),
        ("0 1 1 1 1 1 1 1 1", "obb"),
        ("0 nan 1 1 1", "class number"),
    ],
)
def test_yolo_errors_name_the_line(tmp_path, line, match) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (W, H)).save(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels" / "a.txt").write_text(f"{line}\n")
    (tmp_path / "data.yaml").write_text("names: [x, y]\n")
    with pytest.raises(F.FormatError, match=match):
        F.read_dataset(tmp_path, "yolo")
    # Among others it costs only itself.
    (tmp_path / "labels" / "a.txt").write_text(f"0 .5 .5 .1 .1\n0 .3 .3 .1 .1\n{line}\n")
    data = F.read_dataset(tmp_path, "yolo", task="detect")
    assert len(data.records[0]["annotations"]) == 2
    assert len(data.skipped) == 1 and "a.txt, line 3" in data.skipped[0]


def test_labelme_shapes_and_groups(tmp_path) -> None:
    Image.new("RGB", (W, H)).save(tmp_path / "a.jpg")

    def shape(kind, points, group=None):
        return {
            "label": "x",
            "shape_type": kind,
            "points": points,
            "group_id": group,
        }

    shapes = [
        shape("rectangle", [[20, 20], [10, 5]]), shape("circle", [[30, 20], [40, 20]]), shape("point", [[1, 1]]),
        shape("polygon", [[0, 0], [5, 0], [5, 5]], 3), shape("polygon", [[10, 0], [15, 0], [15, 5]], 3),
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "..\\a.jpg"}))
    data = F.read_dataset(tmp_path)
    found = [np.round(a["bbox"], 2).tolist() for a in data.records[0]["annotations"]]
    assert found == [[10, 5, 20, 20], [20, 10, 40, 30], [0, 0, 15, 5]]
    assert len(data.skipped) == 1 and "point" in data.skipped[0]
    assert "segmentation" not in data.records[0]["annotations"][0]
    (tmp_path / "b.json").write_text("{")
    assert any("b.json" in line for line in F.read_dataset(tmp_path, "labelme").skipped)
    (tmp_path / "a.json").unlink()
    with pytest.raises(F.FormatError, match=r"b\.json"):
        F.read_dataset(tmp_path, "labelme")


def skeletons(folder: Path, pictures: int = 1, joints: int = 3) -> Path:
    """What CVAT exports of a skeleton: one element of points for each keypoint, in any order."""
    (folder / "images").mkdir(parents=True)
    names = ["nose", "left ear", "right ear"][:joints]
    labels = "<label><name>cat</name><type>skeleton</type></label>" + "".join(
        f"<label><name>{n}</name><type>points</type><parent>cat</parent></label>" for n in names
    )
    places = [("right ear", 30, 8, 0, 0), ("nose", 20.5, 22, 1, 0), ("left ear", 99, 99, 0, 1)]
    points = "".join(
        f'<points label="{n}" points="{x},{y}" occluded="{hidden}" outside="{out}"></points>'
        for n, x, y, hidden, out in places
        if n in names
    )
    images = ""
    for i in range(pictures):
        Image.new("RGB", (W, H)).save(folder / "images" / f"{i}.png")
        images += f'<image id="{i}" name="{i}.png"><skeleton label="cat">{points}</skeleton></image>'
    (folder / "annotations.xml").write_text(
        f"<annotations><meta><job><labels>{labels}</labels></job></meta>{images}</annotations>"
    )
    return folder


def test_cvat_skeletons(tmp_path) -> None:
    data = F.read_dataset(skeletons(tmp_path / "in"))
    assert data.classes == ["cat"]
    assert data.metadata["keypoint_names"] == ["nose", "left ear", "right ear"]
    assert data.metadata["keypoint_flip_map"] == [("left ear", "right ear")]
    (anno,) = data.records[0]["annotations"]
    assert anno["keypoints"] == [20.5, 22, 1, 0, 0, 0, 30, 8, 2] and anno["bbox"] == [20.5, 8, 30, 22]
    F.write_dataset(data, tmp_path / "voc", "voc")
    assert any("keypoints of 1 labels" in line for line in data.skipped)


def test_nothing_to_learn_says_what_was_left_out(tmp_path) -> None:
    folder = skeletons(tmp_path / "in", pictures=3)
    file = folder / "annotations.xml"
    file.write_text(file.read_text().replace("skeleton", "ellipse"))
    with pytest.raises(DataError, match=r"(?s)no annotations.*left out.*image 0\.png.*ellipse is no region"):
        F.plan_training(F.Source(str(folder)))


def test_panoptic_and_semantic(dataset, tmp_path) -> None:
    F.write_dataset(dataset, tmp_path / "pan", "coco_panoptic")
    assert F.detect_format(tmp_path / "pan") == "coco_panoptic"
    again = F.read_dataset(tmp_path / "pan")
    areas = [[s["area"] for s in r["segments_info"]] for r in again.records]
    assert areas == [
        [int(to_mask(a["segmentation"], H, W).sum()) for a in r["annotations"]] for r in dataset.records
    ]
    F.write_dataset(again, tmp_path / "pan2", "coco_panoptic")
    third = F.read_dataset(tmp_path / "pan2")
    assert [r["segments_info"] for r in third.records] == [r["segments_info"] for r in again.records]

    (tmp_path / "sem" / "images").mkdir(parents=True)
    (tmp_path / "sem" / "masks").mkdir()
    label = np.zeros((H, W), np.uint8)
    label[2:6, 3:9], label[20:30, 3:9], label[0, 0] = 2, 2, 255
    Image.new("RGB", (W, H)).save(tmp_path / "sem" / "images" / "a.jpg")
    Image.fromarray(label).save(tmp_path / "sem" / "masks" / "a.png")
    assert F.detect_format(tmp_path / "sem") == "semantic"
    data = F.read_dataset(tmp_path / "sem")
    assert data.metadata["stuff_classes"] == ["0", "1", "2"] and data.records[0][
        "sem_seg_file_name"
    ].endswith("a.png")
    F.write_dataset(data, tmp_path / "sem2", "semantic")
    assert F.read_dataset(tmp_path / "sem2").metadata == data.metadata
    assert [a["bbox"] for a in instances_of_mask(label)] == [[3, 2, 9, 6], [3, 20, 9, 30]]
    with pytest.raises(F.FormatError, match="only 2 classes"):
        F.read_dataset(tmp_path / "sem", names=["a", "b"])


def test_unknown_formats_and_places(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        F.detect_format(tmp_path / "none")
    with pytest.raises(F.FormatError, match="yolo"):
        F.detect_format(tmp_path)
    with pytest.raises(F.FormatError, match="labelme"):
        F.read_dataset(tmp_path, "labelmee")


def test_splits_share_out_classes_and_keep_groups_together() -> None:
    rng = np.random.default_rng(0)
    records = [
        {
            "annotations": [
                {"category_id": int(c)} for c in rng.choice(3, rng.integers(0, 4), p=[0.7, 0.25, 0.05])
            ]
        }
        for _ in range(200)
    ]
    data = F.Dataset([{**r, "n": i} for i, r in enumerate(records)], {"thing_classes": ["a", "b", "c"]})
    parts = F.split_dataset(data, {"train": 0.7, "val": 0.2, "test": 0.1})
    assert sorted(r["n"] for p in parts.values() for r in p.records) == list(range(200))
    count = lambda p, c: sum(a["category_id"] == c for r in p.records for a in r["annotations"])  # noqa: E731
    for c in range(3):
        total = count(data, c)
        for name, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
            assert abs(count(parts[name], c) / total - share) < 0.08
    assert [r["n"] for r in F.split_dataset(data, {"a": 1, "b": 1})["a"].records] == [
        r["n"] for r in F.split_dataset(data, {"a": 1, "b": 1})["a"].records
    ]
    groups = [i // 10 for i in range(200)]
    where = {
        r["n"]: name
        for name, p in F.split_dataset(data, {"x": 3, "y": 1}, groups=groups).items()
        for r in p.records
    }
    assert all(len({where[i] for i in range(g * 10, g * 10 + 10)}) == 1 for g in range(20)) and set(
        where.values()
    ) == {"x", "y"}
    with pytest.raises(ValueError, match="positive"):
        F.split_dataset(data, {"a": 0.0})


def test_a_registered_folder(dataset, tmp_path) -> None:
    F.write_dataset(dataset, tmp_path / "v", "voc")
    try:
        F.register_dataset("formats_voc", tmp_path / "v")
        assert len(DatasetCatalog.get("formats_voc")) == 3
        assert MetadataCatalog.get("formats_voc").thing_classes == ["blue screw", "bolt", "nut"]
        assert F.check_dataset(F.read_dataset(tmp_path / "v")).ok
    finally:
        forget("formats_voc")


@pytest.mark.parametrize(
    ("name", "kind"), [("coco", "instances"), ("coco_panoptic", "panoptic"), ("labelme", "")]
)
def test_large_files_are_told_apart_without_parsing(dataset, tmp_path, monkeypatch, name, kind) -> None:
    F.write_dataset(dataset, tmp_path / "out", name)
    (file, *_) = sorted((tmp_path / "out").glob("*.json"))
    for least in (1 << 40, 1):
        monkeypatch.setattr(F.coco, "_LARGE", least)
        F.coco._kind_of.cache_clear()
        assert F.coco._kind(file) == kind
