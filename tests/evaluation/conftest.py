"""Random COCO data: ground truth and detections with every edge that the rules speak of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation.coco.detections import ImageDetections
from detectron2.evaluation.coco.truth import GroundTruth
from detectron2.structures.rle import encode_masks

HEIGHT, WIDTH = 240, 320
SIDES = (4.0, 10.0, 32.0, 40.0, 96.0, 120.0)  # 32 and 96: the edges of the area ranges


def _disc(box: np.ndarray) -> np.ndarray:
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    x, y, w, h = box
    return ((xs + 0.5 - x - w / 2) / (w / 2 + 1e-6)) ** 2 + ((ys + 0.5 - y - h / 2) / (h / 2 + 1e-6)) ** 2 < 1


def _annotation(
    rng: np.random.Generator, number: int, image: int, task: str, categories: int
) -> dict[str, Any]:
    w, h = rng.choice(SIDES, 2)
    x, y = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h)
    entry = {
        "id": number,
        "image_id": image,
        "category_id": int(rng.integers(1, categories + 1)) * 3,
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": int(rng.random() < 0.1),
    }
    if task == "segm":
        encoded = encode_masks(_disc(np.array([x, y, w, h]))[None])
        entry["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": encoded.counts[0].decode()}
        entry["area"] = float(encoded.areas[0])
    if task == "keypoints":
        points = np.stack([rng.uniform(x, x + w, 17), rng.uniform(y, y + h, 17), rng.integers(0, 3, 17)], 1)
        points[rng.random() < 0.1] = 0
        entry["keypoints"] = np.rint(points).reshape(-1).tolist()
        entry["num_keypoints"] = int((points[:, 2] > 0).sum())
    return entry


def _detections(
    rng: np.random.Generator, image: int, objects: list, task: str, categories: int, most: int
) -> ImageDetections:
    n = int(rng.integers(0, most)) if rng.random() > 0.15 else 0
    boxes = np.zeros((n, 4))
    classes = rng.integers(1, categories + 1, n) * 3
    keypoints = np.zeros((n, 51)) if task == "keypoints" else None
    for k in range(n):
        if objects and rng.random() < 0.7:
            near = objects[int(rng.integers(len(objects)))]
            boxes[k] = np.array(near["bbox"]) + rng.normal(0, 2, 4) * (rng.random() < 0.8)
            classes[k] = near["category_id"] if rng.random() < 0.9 else classes[k]
            if keypoints is not None:
                moved = np.array(near["keypoints"]).reshape(17, 3) + rng.normal(0, 2, (17, 3))
                keypoints[k] = moved.reshape(-1)
        else:
            w, h = rng.choice(SIDES, 2)
            boxes[k] = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h), w, h
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 0.5)
    scores = np.round(rng.random(n), 1 if rng.random() < 0.5 else 4)  # many ties
    found = ImageDetections(image, classes.astype(np.int64), boxes, scores, keypoints=keypoints)
    if task == "segm":
        masks = np.stack([_disc(b) for b in boxes]) if n else np.zeros((0, HEIGHT, WIDTH), dtype=bool)
        encoded = encode_masks(masks)
        found.rles, found.areas, found.size = encoded.counts, encoded.areas, encoded.size
    return found


def random_case(
    seed: int, task: str = "bbox", images: int = 8, categories: int = 4, most: int = 25
) -> tuple[GroundTruth, list[ImageDetections]]:
    """Ground truth and detections of some images; ids are neither dense nor ordered."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(images) * 7 + 5).tolist()
    annotations: list[dict[str, Any]] = []
    for image in ids:
        for _ in range(int(rng.integers(0, 7))):
            annotations.append(_annotation(rng, len(annotations) + 1, image, task, categories - 1))
    truth = GroundTruth(
        {
            "images": [{"id": i, "height": HEIGHT, "width": WIDTH, "file_name": f"{i}.jpg"} for i in ids],
            "annotations": annotations,
            "categories": [
                {"id": 3 * c, "name": f"c{c}"} for c in range(1, categories + 1)
            ],  # the last has no object
        }
    )
    found = [_detections(rng, i, truth.by_image.get(i, []), task, categories, most) for i in ids]
    return truth, found


@pytest.fixture
def make_case():
    return random_case


@pytest.fixture
def register(request):
    """Register a data set for the length of a test: ``register(name, dicts, **metadata)``."""
    names: list[str] = []

    def add(name: str, dicts: list[dict[str, Any]], **metadata: Any) -> str:
        DatasetCatalog.register(name, lambda: dicts)
        MetadataCatalog.get(name).set(**metadata)
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
