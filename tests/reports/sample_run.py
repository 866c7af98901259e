"""The folder of a finished run, written without training."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from detectron2.evaluation.coco.detections import from_json_dicts
from detectron2.evaluation.coco.truth import GroundTruth
from detectron2.evaluation.diagnosis.diagnose import diagnose
from detectron2.reports.explain import write_evaluation

EVIL = '<script>alert("x")</script> & a very long name that would not fit into a narrow column of any table'
BOXES = ([10, 10, 40, 40], [60, 20, 30, 50])


def write_sample_run(folder: Path) -> Path:
    """Write what a training of three classes leaves: two labelled boxes in each of two images, and some detections."""
    images = [{"id": i, "height": 100, "width": 120, "file_name": f"{i}.jpg"} for i in (1, 2)]
    names = ("cat", EVIL, "dog")
    labels = [
        {"id": 2 * i + k, "image_id": i, "category_id": 1 + k, "bbox": box, "area": box[2] * box[3]}
        for i in (1, 2)
        for k, box in enumerate(BOXES)
    ]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
    truth = GroundTruth({"images": images, "annotations": labels, "categories": categories})
    found = [(1, 1, BOXES[0], 0.9), (1, 1, BOXES[1], 0.7), (2, 2, BOXES[1], 0.8), (2, 3, [0, 0, 9, 9], 0.3)]
    detections = [
        from_json_dicts(
            [{"image_id": i, "category_id": c, "bbox": b, "score": s} for j, c, b, s in found if i == j], i
        )
        for i in (1, 2)
    ]
    told = diagnose(truth, detections)
    write_evaluation({"bbox": told.summary}, told, folder, ["AP of bbox is low."])
    (folder / "pictures").mkdir()
    for name in ("train_batch", "examples_00", "errors_00"):
        Image.fromarray(np.full((420, 1100, 3), 90, np.uint8)).save(folder / "pictures" / f"{name}.jpg")
    index = {
        "threshold": 0.5,
        "examples": [{"file": "examples_00.jpg", "caption": "1.jpg: 2 labels, 1 prediction"}],
        "errors": [{"file": "errors_00.jpg", "caption": "1.jpg: 1 of 2 labels missed"}],
    }
    train = {"json": "train.json", "num_images": 2, "num_instances": 43, "labels": [3, 40, 0]}
    val = {"json": "val.json", "num_images": 2, "num_instances": 4, "labels": [2, 2, 0]}
    card = {
        "model": "tiny.yaml",
        "classes": names,
        "train": train,
        "val": val,
        "command": ["detectron2", "train"],
    }
    metrics = [
        {"iteration": it, "total_loss": 4.0 - it / 1000, "loss_cls": 1.0, "lr": 0.01, "time": 0.25}
        | ({"val/total_loss": 1.5 if it < 1000 else 1.0, "bbox/AP": 40.0} if it % 600 == 599 else {})
        for it in range(19, 1200, 20)
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(m) + "\n" for m in metrics))
    for name, content in {
        "run": card,
        "summary": {"box_AP": 0.425, "seconds": 200.4, "iterations": 1200},
        "pictures/index": index,
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
