"""Metrics by class, examples and the worst errors of predictions, for the report of a run."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators, RotatedCOCOEvaluator
from detectron2.evaluation.diagnosis.findings import ERROR_NAMES, ClassRow, Curve, Diagnosis
from detectron2.structures import Boxes, BoxMode, Instances, RotatedBoxes
from detectron2.structures.rle import decode
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.text import csv_encoding

from .page import counted, without_nan
from .pictures import draw_errors, save_pair, save_row
from .pixels import PredictedMaps

__all__ = ["explain_predictions", "load_predictions"]

EXAMPLES = 8
ERRORS = 6
THRESHOLD = 0.5
MOST_MASK_PIXELS = 256 << 20
MOST_PIXELS = 64 << 20  # of an image that is drawn


def explain_predictions(
    evaluator: DatasetEvaluator, dataset_name: str, folder: Path, results: Mapping[str, Any]
) -> None:
    """Write ``evaluation.json``, ``classes.csv`` and ``pictures/`` after an evaluation.

    Args:
        evaluator: the evaluator after ``evaluate()``, with its files in ``folder/inference``. Metrics by class, curves
            and errors need a ``COCOEvaluator``.
        dataset_name: registered dataset that was evaluated.
        folder: the run's folder.
        results: results of the evaluator.
    """
    metadata = MetadataCatalog.get(dataset_name)
    records = DatasetCatalog.get(dataset_name)
    if isinstance(evaluator, DatasetEvaluators):  # of panoptic segmentation; instances are one of its tasks
        evaluator = next((e for e in evaluator.parts if isinstance(e, COCOEvaluator)), evaluator)
    found = None
    notes: list[str] = []
    if isinstance(evaluator, COCOEvaluator):
        notes = evaluator.reasons
        # Errors and curves support only upright boxes.
        if results and not isinstance(evaluator, RotatedCOCOEvaluator):
            found = evaluator.diagnose("segm" if "segm" in results else "bbox", top=ERRORS)
    if found is None:
        notes = [
            *notes,
            "Curves, kinds of errors and worst images are available only for boxes and masks in COCO's format.",
        ]
    small = [r for r in records if r["height"] * r["width"] <= MOST_PIXELS]
    if len(small) < len(records):
        large = counted(len(records) - len(small), "image")
        notes = [*notes, f"Not drawn, because of more than {MOST_PIXELS >> 20} megapixels: {large}."]
    write_evaluation(results, found, folder, notes)
    predictions = load_predictions(folder / "inference" / "coco_instances_results.json", records, metadata)
    maps = PredictedMaps(folder / "inference", metadata)
    index = _draw_examples(small, predictions, metadata, folder / "pictures", maps)
    if found is not None:
        assert isinstance(evaluator, COCOEvaluator)
        index["errors"] = _draw_worst(evaluator, found, small, folder / "pictures")
    with atomic_write(folder / "pictures" / "index.json") as f:
        json.dump(index, f, indent=2)


def write_evaluation(
    results: Mapping[str, Any], found: Diagnosis | None, folder: Path, notes: Sequence[str] = ()
) -> None:
    """Write ``evaluation.json`` and ``classes.csv``.

    Args:
        results: results of the evaluator, in percent.
        found: their diagnosis; without it, there is no ``classes.csv``.
        folder: folder to write to.
        notes: reasons for an AP that is 0 or undefined.
    """
    content = {"results": results, "notes": list(notes), **(plain(found) if found else {})}
    with atomic_write(folder / "evaluation.json") as f:
        json.dump(without_nan(content), f, indent=1)
    if found is not None:
        with atomic_write(folder / "classes.csv", encoding=csv_encoding(c.name for c in found.classes)) as f:
            table = csv.DictWriter(f, [c.name for c in fields(ClassRow)], lineterminator="\n")
            table.writeheader()
            table.writerows(
                without_nan(asdict(row)) for row in found.classes
            )  # undefined values are empty cells


def plain(found: Diagnosis) -> dict[str, Any]:
    """Convert a diagnosis to JSON values, with at most 100 points of each curve."""
    return {
        "task": found.task,
        "classes": [asdict(row) for row in found.classes],
        "sizes": found.by_size,
        "ious": {f"{k:.2f}": v for k, v in found.by_iou.items()},
        "curves": {row.name: _thin_curve(found.curves[row.category_id]) for row in found.classes},
        "errors": {ERROR_NAMES[k]: found.errors.cost[k] for k in ERROR_NAMES},
        "error_counts": {ERROR_NAMES[k]: found.errors.counts[k] for k in ERROR_NAMES},
        "confusion": {
            "names": found.confusion.names,
            "matrix": found.confusion.matrix.tolist(),
            "min_score": found.confusion.min_score,
        },
        "calibration": {
            "confidence": found.calibration.confidence.tolist(),
            "accuracy": found.calibration.accuracy.tolist(),
            "count": found.calibration.count.tolist(),
            "ece": found.calibration.ece,
        },
        "worst_images": [asdict(e) for e in found.worst],
        "doubtful_labels": list(found.doubtful_labels),
    }


def _thin_curve(curve: Curve, points: int = 100) -> dict[str, list[float]]:
    rows = np.unique(np.linspace(0, len(curve.score) - 1, min(points, len(curve.score))).astype(int))
    fields = {"score": curve.score, "precision": curve.precision, "recall": curve.recall, "f1": curve.f1}
    return {name: np.round(values[rows], 4).tolist() for name, values in fields.items()}


def load_predictions(
    path: Path, records: Sequence[Mapping[str, Any]], metadata: Metadata
) -> dict[Any, Instances]:
    """Read predictions in COCO format.

    Args:
        path: result file of ``COCOEvaluator``.
        records: dataset dicts, for the sizes of the images.
        metadata: metadata, with the mapping of category ids if there is one.

    Returns:
        ``Instances`` of each image of ``records`` by image id, with boxes, scores, classes, keypoints and RLE masks
        (``pred_rle``).
    """
    to_index = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    rows: dict[Any, list[dict[str, Any]]] = {r["image_id"]: [] for r in records}
    for row in json.loads(path.read_bytes()) if path.is_file() else []:
        if row["image_id"] in rows:
            rows[row["image_id"]].append(row)
    sizes = {r["image_id"]: (r["height"], r["width"]) for r in records}
    return {key: _instances(found, sizes[key], to_index) for key, found in rows.items()}


def _instances(
    rows: Sequence[Mapping[str, Any]], size: tuple[int, int], to_index: Mapping[int, int]
) -> Instances:
    found = Instances(size)
    if rows and len(rows[0]["bbox"]) == 5:
        found.pred_boxes = RotatedBoxes(torch.tensor([r["bbox"] for r in rows], dtype=torch.float32))
    else:
        found.pred_boxes = Boxes(torch.from_numpy(_corners([r["bbox"] for r in rows])))
    found.scores = torch.tensor([r["score"] for r in rows], dtype=torch.float32)
    found.pred_classes = torch.tensor([to_index.get(r["category_id"], r["category_id"]) for r in rows]).long()
    if rows and all("segmentation" in r for r in rows):
        found.pred_rle = [r["segmentation"] for r in rows]
    if rows and all("keypoints" in r for r in rows):
        points = np.array([r["keypoints"] for r in rows], dtype=np.float32).reshape(len(rows), -1, 3)
        found.pred_keypoints = torch.from_numpy(points)
    return found


def visible(instances: Instances, threshold: float = THRESHOLD) -> Instances:
    """Return the predictions with at least this score, with decoded masks for drawing.

    If the masks exceed 256 MiB, only those with the highest scores are returned.
    """
    kept = instances[instances.scores >= threshold]
    if kept.has("pred_rle"):
        height, width = kept.image_size
        most = max(MOST_MASK_PIXELS // max(height * width, 1), 1)
        kept = kept[kept.scores.argsort(descending=True, stable=True)[:most].sort().values]
    shown = Instances(kept.image_size, **{k: v for k, v in kept.get_fields().items() if k != "pred_rle"})
    if kept.has("pred_rle") and len(kept):
        shown.pred_masks = torch.from_numpy(np.stack([decode(rle) for rle in kept.pred_rle]))
    return shown


def _draw_examples(
    records: Sequence[Mapping[str, Any]],
    predictions: Mapping[Any, Instances],
    metadata: Metadata,
    folder: Path,
    maps: PredictedMaps,
) -> dict[str, Any]:
    """Draw evenly spaced images of the dataset; return the content of ``index.json``."""
    step = max(len(records) / EXAMPLES, 1.0)
    index: dict[str, Any] = {"threshold": THRESHOLD, "examples": [], "errors": []}
    for number in range(min(EXAMPLES, len(records))):
        record = records[int(number * step)]
        found = predictions[record["image_id"]]
        shown, count = visible(found), int((found.scores >= THRESHOLD).sum())
        name = f"examples_{number:02d}.jpg"
        drawn = maps.draw(record)
        save_pair(record, shown, metadata, folder / name, drawn)
        labels = counted(len(record.get("annotations", ())), "label")
        caption = Path(record["file_name"]).name
        if drawn is None:
            caption += f": {labels}, {counted(count, 'prediction')}"
        index["examples"].append({"file": name, "caption": caption})
    return index


def _draw_worst(
    evaluator: COCOEvaluator, found: Diagnosis, records: Sequence[Mapping[str, Any]], folder: Path
) -> list[dict[str, str]]:
    """Draw the images with the most errors, with missed labels on the left and false predictions on the right."""
    files = {r["image_id"]: r["file_name"] for r in records}
    names = {row.category_id: row.name for row in found.classes}
    thresholds = {row.category_id: row.threshold for row in found.classes}
    wanted = {e.image_id for e in found.worst[:ERRORS]}
    detections = {d.image_id: d for d in evaluator.detections() if d.image_id in wanted}
    entries: list[dict[str, str]] = []
    for number, errors in enumerate([e for e in found.worst[:ERRORS] if e.image_id in files]):
        image = utils.read_image(files[errors.image_id], "RGB")
        objects = [a for a in evaluator._truth.by_image.get(errors.image_id, ()) if not a["iscrowd"]]
        missed = set(errors.missed)
        left = draw_errors(
            image,
            _corners([a["bbox"] for a in objects]),
            [names.get(a["category_id"], "") for a in objects],
            [a["id"] in missed for a in objects],
        )
        own, false = detections[errors.image_id], set(errors.false)
        limits = np.array([thresholds.get(c, np.nan) for c in own.category_ids.tolist()])
        shown = np.flatnonzero(own.scores >= np.where(np.isfinite(limits), limits, 0.5)).tolist()
        right = draw_errors(
            image,
            _corners([own.boxes[k].tolist() for k in shown]),
            [f"{names.get(int(own.category_ids[k]), '')} {100 * own.scores[k]:.0f}%" for k in shown],
            [k in false for k in shown],
        )
        name = f"errors_{number:02d}.jpg"
        save_row([left, right], folder / name)
        caption = (
            f"{Path(files[errors.image_id]).name}: {len(errors.missed)} of {counted(len(objects), 'label')} missed, "
            f"{len(errors.false)} of {counted(len(shown), 'prediction')} false"
        )
        entries.append({"file": name, "caption": caption})
    return entries


def _corners(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Convert XYWH boxes to XYXY, [N, 4]."""
    return BoxMode.convert(
        np.array(boxes, dtype=np.float64).reshape(-1, 4), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS
    )
