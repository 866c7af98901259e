"""COCO evaluation end to end through ``COCOEvaluator``: the fast engine against pycocotools.

    python benchmarks/evaluation.py [--images 2500] [--detections 100] [--tasks bbox segm] [--shape 480 640]

Each side takes in the same predictions image by image (RLE encoding of masks included), and evaluates. The
pycocotools side keeps lists of dicts and encodes masks one by one with ``pycocotools.mask.encode``, as evaluators on
pycocotools do. Figures must be equal; times are processor time of one run each, in one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import resource
import tempfile
import time
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation._coco_engine import pycocotools_eval
from detectron2.structures import Boxes, Instances

CLASSES = 80
DISTINCT_MASKS = (
    25  # images whose masks are made; others use theirs again, so that making them does not take all day
)


def ellipses(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((len(boxes), *shape), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        a, b, c, d = max(int(x0), 0), max(int(y0), 0), min(int(x1) + 1, shape[1]), min(int(y1) + 1, shape[0])
        ys, xs = np.mgrid[b:d, a:c]
        mask[b:d, a:c] = ((xs - (x0 + x1) / 2) * 2 / (x1 - x0)) ** 2 + (
            (ys - (y0 + y1) / 2) * 2 / (y1 - y0)
        ) ** 2 < 1
    return masks


def random_boxes(rng: np.random.Generator, n: int, shape: tuple[int, int]) -> np.ndarray:
    size = np.exp(rng.uniform(np.log(12), np.log(250), (n, 2)))
    corner = rng.uniform(-10, [shape[1] - 20, shape[0] - 20], (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    return np.clip(boxes, 0, [shape[1], shape[0]] * 2)


def make(
    images: int, detections: int, shape: tuple[int, int], masks: bool
) -> tuple[dict[str, Any], list[Instances]]:
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    predictions: list[Instances] = []
    for i in range(images):
        seed = np.random.default_rng(i % DISTINCT_MASKS)
        truth = random_boxes(seed, 7, shape)
        classes = seed.integers(0, CLASSES, 7)
        which = seed.integers(0, 7, detections)
        found = np.where(
            seed.random((detections, 1)) < 0.4, truth[which], random_boxes(seed, detections, shape)
        )
        found = np.clip(found + seed.normal(0, 3, found.shape), 0, [shape[1], shape[0]] * 2)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
        labels = np.where(
            seed.random(detections) < 0.8, classes[which], seed.integers(0, CLASSES, detections)
        )
        inst = Instances(shape)
        inst.pred_boxes = Boxes(torch.from_numpy(found.astype(np.float32)))
        inst.scores = torch.from_numpy(rng.random(detections).astype(np.float32))
        inst.pred_classes = torch.from_numpy(labels)
        if masks:
            again = predictions[i % DISTINCT_MASKS].pred_masks if i >= DISTINCT_MASKS else None
            inst.pred_masks = torch.from_numpy(ellipses(found, shape)) if again is None else again
            rles = mask_util.encode(
                np.asfortranarray(ellipses(truth, shape).transpose(1, 2, 0).astype(np.uint8))
            )
        for k, (x0, y0, x1, y1) in enumerate(truth.tolist()):
            entry = {
                "id": len(annotations) + 1, "image_id": i + 1, "category_id": int(classes[k]) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": int(seed.random() < 0.02),
            }  # fmt: skip
            if masks:
                entry["segmentation"] = {"size": list(shape), "counts": rles[k]["counts"].decode()}
                entry["area"] = float(mask_util.area(rles[k]))
            annotations.append(entry)
        predictions.append(inst)
    content = {
        "images": [
            {"id": i + 1, "height": shape[0], "width": shape[1], "file_name": f"{i}.jpg"}
            for i in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": c + 1, "name": f"c{c}"} for c in range(CLASSES)],
    }
    return content, predictions


def by_dicts(inst: Instances, image_id: int) -> list[dict[str, Any]]:
    """Predictions as result dicts, the plain way."""
    boxes = inst.pred_boxes.tensor.numpy().copy()
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(boxes.tolist(), inst.scores.tolist(), inst.pred_classes.tolist())
    entries = [{"image_id": image_id, "category_id": c + 1, "bbox": b, "score": s} for b, s, c in rows]
    if inst.has("pred_masks"):
        for entry, mask in zip(entries, inst.pred_masks):
            rle = mask_util.encode(np.asfortranarray(mask.numpy()[:, :, None].astype(np.uint8)))[0]
            entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    return entries


def run_fast(evaluator: COCOEvaluator, predictions: list[Instances]) -> tuple[float, Any]:
    start = time.process_time()
    evaluator.reset()
    for i, inst in enumerate(predictions):
        evaluator.process([{"image_id": i + 1}], [{"instances": inst}])
    results = evaluator.evaluate()
    return time.process_time() - start, results


def run_pycocotools(evaluator: COCOEvaluator, predictions: list[Instances], task: str) -> tuple[float, Any]:
    truth = evaluator._coco_api
    start = time.process_time()
    entries = [entry for i, inst in enumerate(predictions) for entry in by_dicts(inst, i + 1)]
    if task == "segm":
        for entry in entries:
            del entry["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        matcher = pycocotools_eval(truth, entries, task)
        matcher.summarize()
    return time.process_time() - start, matcher.stats


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--tasks", nargs="+", default=["bbox", "segm"], choices=["bbox", "segm"])
    parser.add_argument("--shape", nargs=2, type=int, default=[480, 640])
    args = parser.parse_args()
    torch.set_num_threads(1)
    for task in args.tasks:
        content, predictions = make(args.images, args.detections, tuple(args.shape), task == "segm")
        name = f"benchmark_{task}"
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump(content, file)
        path = file.name
        DatasetCatalog.register(name, list)
        mapping = {c + 1: c for c in range(CLASSES)}
        MetadataCatalog.get(name).set(json_file=path, thing_dataset_id_to_contiguous_id=mapping)
        evaluator = COCOEvaluator(name, tasks=(task,), distributed=False)
        peak = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]
        os.unlink(path)
        fast, results = run_fast(evaluator, predictions)
        peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        slow, stats = run_pycocotools(evaluator, predictions, task)
        peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        same = [
            results[task][k] == 100 * v for k, v in zip(("AP", "AP50", "AP75", "APs", "APm", "APl"), stats)
        ]
        more = [(b - a) / 1024 for a, b in itertools.pairwise(peak)]
        print(
            f"{task}: {args.images} images x {args.detections}: COCOEvaluator {fast:.2f} s, pycocotools {slow:.2f} s: "
            f"{slow / fast:.1f} times as fast; AP {results[task]['AP']:.4f}, equal: {all(same)}; "
            f"peak memory grew by {more[0]:.0f} MB, then by {more[1]:.0f} MB more with pycocotools"
        )


if __name__ == "__main__":
    main()
