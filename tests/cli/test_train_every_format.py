"""Each kind of label in each format, from a folder to a report, without naming a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from detectron2.cli import main
from detectron2.data import formats as F
from detectron2.data.formats.base import rotated_corners
from detectron2.structures import BoxMode
from detectron2.structures.rle import to_rle

W, H = 80, 64
NAMES = ["coin", "tile"]
POINTS = ["top", "left", "right"]
SMALL = {
    "SOLVER.MAX_ITER": 3, "SOLVER.STEPS": "(2,)", "INPUT.MIN_SIZE_TRAIN": "(64,)", "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64, "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32, "MODEL.RPN.PRE_NMS_TOPK_TEST": 100, "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": "(16, 16)",
    "TEST.EVAL_PERIOD": 0, "SOLVER.CHECKPOINT_PERIOD": 3,
}  # fmt: skip


def dataset(folder: Path, kind: str, count: int = 6) -> F.Dataset:
    """Pictures of two things each, labelled with "boxes", "masks", "bitmaps", "keypoints" or "rotated"."""
    folder.mkdir()
    records = []
    for number in range(count):
        picture = Image.new("RGB", (W, H), "white")
        things = []
        for cls, x in enumerate((22, 58)):
            angle = 30.0 if kind == "rotated" else 0.0
            turned = [float(x), 26.0 + number, 20.0, 14.0 + 4 * cls, angle]
            corners = rotated_corners(turned)
            ImageDraw.Draw(picture).polygon([tuple(p) for p in corners], fill=("red", "blue")[cls])
            box = [*corners.min(0), *corners.max(0)]
            label: dict[str, Any] = {"bbox": [float(v) for v in box], "bbox_mode": BoxMode.XYXY_ABS}
            if kind == "rotated":
                label = {"bbox": turned, "bbox_mode": BoxMode.XYWHA_ABS}
            if kind == "masks":
                label["segmentation"] = [corners.reshape(-1).tolist()]
            if kind == "bitmaps":
                label["segmentation"] = to_rle([corners.reshape(-1).tolist()], H, W)
            if kind == "keypoints":
                label["keypoints"] = [x, turned[1] - 4.0, 2, x - 6.0, turned[1], 2, x + 6.0, turned[1], 1]
            things.append({**label, "category_id": cls, "iscrowd": 0})
        file = folder / f"p{number}.png"
        picture.save(file)
        records.append(
            {"file_name": str(file), "image_id": number + 1, "height": H, "width": W, "annotations": things}
        )
    metadata: dict[str, Any] = {"thing_classes": NAMES}
    if kind == "keypoints":
        metadata |= {"keypoint_names": POINTS, "keypoint_flip_map": [("left", "right")]}
    return F.Dataset(records, metadata)


def by_package(name: str, **options: Any) -> Callable[[F.Dataset, Path], None]:
    """What writes the format as this package does."""
    return lambda data, folder: F.write_dataset(data, folder, name, **options)


def rotated_coco(data: F.Dataset, folder: Path) -> None:
    """COCO json whose boxes have five numbers."""
    images = [
        {"id": r["image_id"], "file_name": Path(r["file_name"]).name, "width": W, "height": H}
        for r in data.records
    ]
    labels = [
        {"image_id": r["image_id"], "category_id": a["category_id"] + 1, "bbox": a["bbox"], "iscrowd": 0}
        for r in data.records
        for a in r["annotations"]
    ]
    labels = [{"id": n, "area": a["bbox"][2] * a["bbox"][3], **a} for n, a in enumerate(labels, 1)]
    (folder / "images").mkdir(parents=True)
    for record in data.records:
        file = Path(record["file_name"])
        (folder / "images" / file.name).write_bytes(file.read_bytes())
    categories = [{"id": i, "name": n} for i, n in enumerate(NAMES, 1)]
    content = {"images": images, "annotations": labels, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(content))


def cvat_skeletons(data: F.Dataset, folder: Path) -> None:
    """CVAT's keypoints."""
    (folder / "images").mkdir(parents=True)
    text = "".join(f"<label><name>{n}</name></label>" for n in NAMES)
    text += "".join(f"<label><name>{p}</name><parent>coin</parent></label>" for p in POINTS)
    text = f"<meta><job><labels>{text}</labels></job></meta>"
    for number, record in enumerate(data.records):
        file = Path(record["file_name"])
        (folder / "images" / file.name).write_bytes(file.read_bytes())
        text += f'<image id="{number}" name="{file.name}" width="{W}" height="{H}">'
        for a in record["annotations"]:
            points = "".join(
                f'<points label="{name}" outside="0" occluded="0" points="{x},{y}"/>'
                for name, (x, y, _) in zip(POINTS, np.reshape(a["keypoints"], (-1, 3)))
            )
            text += f'<skeleton label="{NAMES[a["category_id"]]}">{points}</skeleton>'
        text += "</image>"
    (folder / "annotations.xml").write_text(f"<annotations>{text}</annotations>")


CASES = {
    "boxes": ["coco", "yolo", "voc", "labelme", "cvat"],
    "masks": ["coco", "yolo", "labelme", "cvat"],
    "bitmaps": ["coco", "labelme", "cvat"],
    "keypoints": ["coco", "yolo"],
    "rotated": ["dota", "yolo", "cvat"],
}
FIGURES = {
    "boxes": {"box_AP"},
    "masks": {"box_AP", "mask_AP"},
    "bitmaps": {"box_AP", "mask_AP"},
    "keypoints": {"box_AP", "keypoint_AP"},
    "rotated": {"box_AP"},
}
WRITERS = {(kind, name): by_package(name) for kind, names in CASES.items() for name in names}
WRITERS["keypoints", "cvat"] = cvat_skeletons
WRITERS["rotated", "coco"] = rotated_coco
WRITERS["rotated", "yolo"] = by_package("yolo", task="obb")
WRITERS["masks", "yolo"] = by_package("yolo", task="segment")

# Lines of nine numbers are outlines or rotated boxes.
TASKS = {("masks", "yolo"): ["--task", "segment"], ("rotated", "yolo"): ["--task", "obb"]}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), WRITERS)
def test_train_eval_and_predict(
    kind: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset(tmp_path / "in", kind)
    folder, out = tmp_path / name, tmp_path / "run"
    WRITERS[kind, name](data, folder)
    words = [str(w) for pair in SMALL.items() for w in pair]
    task = TASKS.get((kind, name), [])
    assert main(["data", "check", str(folder), *task]) == 0
    start = ["train", "--train", str(folder), "--weights", "none", "--batch-size", "2", "--workers", "0"]
    assert main([*start, *task, "--device", "cpu", "--output", str(out), *words]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert FIGURES[kind] == {f for f in summary if f.endswith("_AP")}
    assert summary["iterations"] == 3
    card = json.loads((out / "run.json").read_text())
    assert sorted(card["classes"]) == NAMES
    assert card["train"]["num_images"] + card["val"]["num_images"] == len(data.records)
    assert card["train"]["num_instances"] + card["val"]["num_instances"] == 2 * len(data.records)
    assert "data:image/jpeg" in (out / "report.html").read_text()
    rows = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    losses = [row["total_loss"] for row in rows if "total_loss" in row]
    assert losses and np.isfinite(losses).all()
    assert main(["eval", str(out), "--data", str(folder), *task, "--device", "cpu"]) == 0
    shown = tmp_path / "shown"
    words = ["predict", str(out), "--output", str(shown), "--threshold", "0", "--device", "cpu"]
    assert main(words) == 0
    assert json.loads((shown / "predictions.json").read_text())
