"""Evaluation end to end against the programs that others evaluate with; figures must be equal.

    python benchmarks/evaluation.py [--images 2500] [--detections 100] [--shape 480 640]
                                    [--tasks bbox segm keypoints lvis panoptic panoptic_from_memory]

Both sides take in the same predictions image by image (encoding of masks included), and evaluate.

* ``bbox``, ``segm``, ``keypoints``: ``COCOEvaluator`` and pycocotools, which gets lists of dicts and masks encoded one
  by one with ``pycocotools.mask.encode``.
* ``lvis``: ``LVISEvaluator`` on boxes of 1,203 classes and lvis-api (``pip install lvis``), which gets dicts.
* ``panoptic``: ``COCOPanopticEvaluator`` and panopticapi's published algorithm, written anew below. As in an
  evaluation with panopticapi, each prediction is encoded as PNG and written, and read again to be compared.
* ``panoptic_from_memory``: the same, but the algorithm gets predicted ids from memory; what is left is reading the
  labels, which both sides do, and matching.

Times are processor time of one run each, labels already read, in one thread; memory is how far the peak of a side's
own process (forked after the data were made) rises above where it began.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import logging
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from PIL import Image

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, COCOPanopticEvaluator, LVISEvaluator
from detectron2.evaluation.coco.engines import pycocotools_eval
from detectron2.evaluation.panoptic.evaluator import id2rgb, read_ids
from detectron2.structures import Boxes, Instances

CLASSES = 80
LVIS_CLASSES = 1203
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
    images: int, detections: int, shape: tuple[int, int], task: str
) -> tuple[dict[str, Any], list[Instances]]:
    rng = np.random.default_rng(0)
    masks = task == "segm"
    count = LVIS_CLASSES if task == "lvis" else CLASSES
    annotations: list[dict[str, Any]] = []
    predictions: list[Instances] = []
    for i in range(images):
        seed = np.random.default_rng(i % DISTINCT_MASKS)
        truth = random_boxes(seed, 7, shape)
        classes = seed.integers(0, count, 7)
        which = seed.integers(0, 7, detections)
        found = np.where(
            seed.random((detections, 1)) < 0.4, truth[which], random_boxes(seed, detections, shape)
        )
        found = np.clip(found + seed.normal(0, 3, found.shape), 0, [shape[1], shape[0]] * 2)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
        labels = np.where(seed.random(detections) < 0.8, classes[which], seed.integers(0, count, detections))
        if task == "keypoints":  # people only
            classes, labels = np.zeros_like(classes), np.zeros_like(labels)
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
        if task == "keypoints":
            points = truth[:, None, :2] + seed.random((7, 17, 2)) * (truth[:, None, 2:] - truth[:, None, :2])
            moved = points[which] + seed.normal(0, 6, (detections, 17, 2))
            inst.pred_keypoints = torch.from_numpy(
                np.concatenate([moved, seed.random((detections, 17, 1))], 2)
            )
        for k, (x0, y0, x1, y1) in enumerate(truth.tolist()):
            entry = {
                "id": len(annotations) + 1, "image_id": i + 1, "category_id": int(classes[k]) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": int(seed.random() < 0.02),
            }  # fmt: skip
            if masks:
                entry["segmentation"] = {"size": list(shape), "counts": rles[k]["counts"].decode()}
                entry["area"] = float(mask_util.area(rles[k]))
            if task == "keypoints":
                entry["keypoints"] = np.append(points[k], np.full((17, 1), 2), axis=1).reshape(-1).tolist()
                entry["num_keypoints"] = 17
            annotations.append(entry)
        predictions.append(inst)
    content = {
        "images": [
            {"id": i + 1, "height": shape[0], "width": shape[1], "file_name": f"{i}.jpg"}
            for i in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": c + 1, "name": f"c{c}"} for c in range(count)],
    }
    if task == "lvis":
        add_federation(content, predictions)
    return content, predictions


def add_federation(content: dict[str, Any], predictions: list[Instances]) -> None:
    """What LVIS says of images and categories: half of what is predicted in an image is known to be absent."""
    rng = np.random.default_rng(1)
    for k, category in enumerate(content["categories"]):
        category.update(frequency="rcf"[k % 3], image_count=1)
    present: dict[int, set[int]] = {}
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 0
        present.setdefault(annotation["image_id"], set()).add(annotation["category_id"])
    for image, found in zip(content["images"], predictions):
        own = present.get(image["id"], set())
        others = sorted(set((found.pred_classes + 1).tolist()) - own)
        image["neg_category_ids"] = [c for c in others if rng.random() < 0.5]
        image["not_exhaustive_category_ids"] = [c for c in sorted(own) if rng.random() < 0.1]


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
    if inst.has("pred_keypoints"):
        for entry, points in zip(entries, inst.pred_keypoints.numpy()):
            entry["keypoints"] = (points - [0.5, 0.5, 0.0]).reshape(-1).tolist()
    return entries


def run_fast(name: str, predictions: list[Instances], task: str) -> tuple[list[float], float]:
    evaluator = COCOEvaluator(name, tasks=(task,), distributed=False)
    start = time.process_time()
    for i, inst in enumerate(predictions):
        evaluator.process([{"image_id": i + 1}], [{"instances": inst}])
    results = evaluator.evaluate()[task]
    return [results[key] for key in FIGURES[task]], time.process_time() - start


def run_pycocotools(name: str, predictions: list[Instances], task: str) -> tuple[list[float], float]:
    truth = COCOEvaluator(name, tasks=(task,), distributed=False)._coco_api
    start = time.process_time()
    entries = [entry for i, inst in enumerate(predictions) for entry in by_dicts(inst, i + 1)]
    if task == "segm":
        for entry in entries:
            del entry["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        matcher = pycocotools_eval(truth, entries, task)
        matcher.summarize()
    return [100 * v for v in matcher.stats[: len(FIGURES[task])]], time.process_time() - start


def run_lvis(name: str, predictions: list[Instances], task: str) -> tuple[list[float], float]:
    evaluator = LVISEvaluator(name, tasks=("bbox",), distributed=False)
    start = time.process_time()
    for i, inst in enumerate(predictions):
        evaluator.process([{"image_id": i + 1}], [{"instances": inst}])
    figures = evaluator.evaluate()
    assert figures is not None
    return [figures["bbox"][key] for key in LVIS_FIGURES], time.process_time() - start


def run_lvis_api(name: str, predictions: list[Instances], task: str) -> tuple[list[float], float]:
    np.float = float  # lvis-api 0.5.3 is older than NumPy 1.24
    from lvis import LVIS, LVISEval, LVISResults

    logging.disable()
    truth = LVIS(MetadataCatalog.get(name).json_file)
    start = time.process_time()
    entries = [entry for i, inst in enumerate(predictions) for entry in by_dicts(inst, i + 1)]
    matcher = LVISEval(truth, LVISResults(truth, entries, max_dets=300), "bbox")
    matcher.run()
    found = matcher.get_results()
    return [100 * float(found[key]) for key in LVIS_FIGURES], time.process_time() - start


LVIS_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
FIGURES = {
    "bbox": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "segm": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
}


# ------------------------------------------------------------------ panoptic


def make_panoptic(images: int, shape: tuple[int, int], folder: Path) -> list[tuple[np.ndarray, list[dict]]]:
    """Ground truth as PNG files and a json in ``folder``; predictions are moved by some pixels."""
    annotations, predictions = [], []
    for i in range(images):
        if i < DISTINCT_MASKS:
            rng = np.random.default_rng(i)
            ids = np.repeat(np.arange(1, 6), -(-shape[0] // 5))[: shape[0], None] * np.ones(
                (1, shape[1]), int
            )
            for k, mask in enumerate(ellipses(random_boxes(rng, 15, shape), shape)):
                ids[mask] = 1000 * (k + 6)
            known = np.unique(ids).tolist()
            classes = {k: k - 1 if k < 6 else int(rng.integers(5, CLASSES)) for k in known}
            Image.fromarray(id2rgb(ids)).save(folder / f"{i}.png")
            moved = np.roll(ids, (3, 5), (0, 1))
        annotation = [
            {"id": k, "category_id": c, "area": int((ids == k).sum()), "iscrowd": 0}
            for k, c in classes.items()
        ]
        annotations.append(
            {"image_id": i, "file_name": f"{i % DISTINCT_MASKS}.png", "segments_info": annotation}
        )
        predictions.append((moved, [{"id": k, "category_id": c} for k, c in classes.items()]))
        if i >= DISTINCT_MASKS - 1 and i + 1 < images:  # the next image repeats an early one
            ids = read_ids(str(folder / f"{(i + 1) % DISTINCT_MASKS}.png"))
            moved, infos = predictions[(i + 1) % DISTINCT_MASKS]
            classes = {info["id"]: info["category_id"] for info in infos}
    categories = [{"id": c, "name": f"c{c}", "isthing": int(c >= 5)} for c in range(CLASSES)]
    (folder / "panoptic.json").write_text(json.dumps({"annotations": annotations, "categories": categories}))
    return predictions


def run_panoptic(
    name: str, predictions: list[tuple[np.ndarray, list[dict]]], task: str
) -> tuple[list[float], float]:
    evaluator = COCOPanopticEvaluator(name)
    start = time.process_time()
    for i, (ids, infos) in enumerate(predictions):
        evaluator.process(
            [{"image_id": i, "file_name": f"{i}.jpg"}], [{"panoptic_seg": (torch.from_numpy(ids), infos)}]
        )
    figures = evaluator.evaluate()["panoptic_seg"]
    return [figures[key] for key in ("PQ", "SQ", "RQ")], time.process_time() - start


def run_panopticapi(
    name: str, predictions: list[tuple[np.ndarray, list[dict]]], task: str
) -> tuple[list[float], float]:
    """Pairs of ids by ``np.unique`` over 64-bit keys, then dicts: how panopticapi's ``pq_compute`` goes about it."""
    metadata = MetadataCatalog.get(name)
    truths = json.loads(Path(metadata.panoptic_json).read_text())["annotations"]
    start = time.process_time()
    scratch = Path(metadata.panoptic_root) / "predictions"
    if task == "panoptic":
        scratch.mkdir()
        for i, (ids, _) in enumerate(predictions):
            Image.fromarray(id2rgb(ids)).save(scratch / f"{i}.png")
    ious: dict[int, list[float]] = {c: [] for c in range(CLASSES)}
    errors = dict.fromkeys(range(CLASSES), 0)  # of either kind
    for i, (truth, (found, infos)) in enumerate(zip(truths, predictions)):
        wanted = picture_ids(Path(metadata.panoptic_root) / truth["file_name"])
        if task == "panoptic":
            found = picture_ids(scratch / f"{i}.png")
        labels, counts = np.unique(found, return_counts=True)
        areas = dict(zip(labels.tolist(), counts.tolist()))
        pairs, counts = np.unique(wanted * 256**3 + found.astype(np.uint64), return_counts=True)
        shared = {(int(p) // 256**3, int(p) % 256**3): int(n) for p, n in zip(pairs, counts)}
        segments = {s["id"]: s for s in truth["segments_info"]}
        classes = {s["id"]: s["category_id"] for s in infos if s["id"] in areas}
        matched: set[tuple[str, int]] = set()
        for (g, p), n in shared.items():
            if g not in segments or p not in classes or segments[g]["category_id"] != classes[p]:
                continue
            iou = n / (areas[p] + segments[g]["area"] - n - shared.get((0, p), 0))
            if iou > 0.5:
                ious[classes[p]].append(iou)
                matched |= {("truth", g), ("found", p)}
        for g, segment in segments.items():
            errors[segment["category_id"]] += ("truth", g) not in matched
        for p, category in classes.items():
            free = ("found", p) not in matched and shared.get((0, p), 0) / areas[p] <= 0.5
            errors[category] += free
    used = [c for c in range(CLASSES) if ious[c] or errors[c]]
    weights = {c: len(ious[c]) + errors[c] / 2 for c in used}
    pq = [sum(ious[c]) / weights[c] for c in used]
    sq = [sum(ious[c]) / len(ious[c]) if ious[c] else 0.0 for c in used]
    rq = [len(ious[c]) / weights[c] for c in used]
    return [100 * sum(values) / len(used) for values in (pq, sq, rq)], time.process_time() - start


def picture_ids(path: Path) -> np.ndarray:
    rgb = np.asarray(Image.open(path), dtype=np.uint32)
    return (rgb[:, :, 0] + 256 * rgb[:, :, 1] + 256 * 256 * rgb[:, :, 2]).astype(np.uint64)


# ------------------------------------------------------------------ measuring


def measured(
    run: Callable[..., tuple[list[float], float]], *arguments: Any
) -> tuple[list[float], float, float]:
    """Figures, processor seconds, and MB by which memory grew, of a call in a process of its own."""

    def child(pipe: Any) -> None:
        own = copy.deepcopy(arguments)  # or the first use of each page would copy it from the parent
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        figures, seconds = run(*own)
        pipe.send((figures, seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
    process.start()
    there.close()
    result = here.recv()
    process.join()
    return result


def prepare(task: str, args: argparse.Namespace, folder: Path) -> tuple[str, list[Any]]:
    """Register a data set of random content; its name, and predictions on it."""
    name, shape = f"benchmark_{task}", tuple(args.shape)
    DatasetCatalog.register(name, list)
    mapping = {c + 1: c for c in range(LVIS_CLASSES if task == "lvis" else CLASSES)}
    if task.startswith("panoptic"):
        predictions: list[Any] = make_panoptic(args.images, shape, folder)
        MetadataCatalog.get(name).set(panoptic_json=str(folder / "panoptic.json"), panoptic_root=str(folder))
        return name, predictions
    content, predictions = make(args.images, args.detections, shape, task)
    (folder / "truth.json").write_text(json.dumps(content))
    MetadataCatalog.get(name).set(
        json_file=str(folder / "truth.json"), thing_dataset_id_to_contiguous_id=mapping
    )
    return name, predictions


def main() -> None:
    tasks = [*FIGURES, "lvis", "panoptic", "panoptic_from_memory"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=tasks)
    parser.add_argument("--shape", nargs=2, type=int, default=[480, 640])
    args = parser.parse_args()
    torch.set_num_threads(1)
    head = ("task", "images", "ours s", "other s", "ratio", "ours MB", "other MB", "AP or PQ", "equal")
    print(f"{head[0]:>21}" + "".join(f"{h:>11}" for h in head[1:]))
    for task in args.tasks:
        with tempfile.TemporaryDirectory() as folder:
            name, predictions = prepare(task, args, Path(folder))
            sides: Any = (
                (run_panoptic, run_panopticapi)
                if task.startswith("panoptic")
                else (run_fast, run_pycocotools)
            )
            if task == "lvis":
                sides = (run_lvis, run_lvis_api)
            (ours, fast, small), (other, slow, large) = (measured(s, name, predictions, task) for s in sides)
        # sums of PQ's IoUs differ in the last digits with their order
        equal = bool(np.allclose(ours, other, rtol=1e-12, atol=0)) if len(ours) == 3 else ours == other
        print(
            f"{task:>21}{args.images:>11}{fast:>11.2f}{slow:>11.2f}{slow / fast:>11.1f}{small:>11.0f}{large:>11.0f}"
            f"{ours[0]:>11.4f}{equal!s:>11}",
            flush=True,
        )


if __name__ == "__main__":
    main()
