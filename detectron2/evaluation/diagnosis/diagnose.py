"""Analysis of detections: metrics per class, curves, kinds of errors, calibration, worst images.

All results are plain data; reports draw them.
"""

# Legend: N detections, K categories, T IoU thresholds, A area ranges.

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..coco import engines as engines
from ..coco.detections import ImageDetections
from ..coco.figures import average, headline
from ..coco.truth import GroundTruth
from .findings import (
    ERROR_NAMES,
    IGNORED,
    RIGHT,
    WRONG,
    Calibration,
    ClassRow,
    Confusion,
    Curve,
    Diagnosis,
    Errors,
    FloatArray,
    ImageErrors,
    Matches,
)
from .reasons import box_iou

if TYPE_CHECKING:
    import hotcoco

__all__ = [
    "ERROR_NAMES",
    "IGNORED",
    "RIGHT",
    "WRONG",
    "Calibration",
    "ClassRow",
    "Confusion",
    "Curve",
    "Diagnosis",
    "Errors",
    "ImageErrors",
    "Matches",
    "calibration",
    "class_table",
    "confusion_matrix",
    "curve_of",
    "diagnose",
    "error_types",
    "iou_table",
    "match_detections",
    "size_table",
    "worst_images",
]

_BACKGROUND = 0.1  # IoU below which a box does not belong to an object, as in TIDE


# ------------------------------------------------------------------ matching


def match_detections(
    matcher: hotcoco.COCOeval, truth: GroundTruth, detections: Sequence[ImageDetections], iou: float = 0.5
) -> Matches:
    """Determine which detections are correct.

    Args:
        matcher: result of :func:`hotcoco_eval` for the same ground truth and detections.
        truth: ground truth.
        detections: one entry per image.
        iou: IoU threshold, one of those of the evaluation.
    """
    found = matcher.image_diagnostics(iou_thr=iou)
    lengths = np.array([len(d) for d in detections], dtype=np.int64)
    n = int(lengths.sum())
    status = np.full(n, IGNORED, dtype=np.int8)
    matched = np.zeros(n, dtype=np.int64)
    codes = {"tp": RIGHT, "fp": WRONG}
    for number, state in found["dt_status"].items():  # detections are numbered from 1
        status[number - 1] = codes.get(state, IGNORED)
    for number, annotation in found["dt_match"].items():
        matched[number - 1] = annotation
    category_of = {a["id"]: a["category_id"] for a in truth.annotations}
    positives: dict[int, int] = {}
    missed = []
    for annotation, state in found["gt_status"].items():
        if state not in ("matched", "fn"):
            continue
        category = category_of[annotation]
        positives[category] = positives.get(category, 0) + 1
        if state == "fn":
            missed.append(annotation)
    empty = np.zeros(0)
    return Matches(
        iou=iou,
        image=np.repeat(np.arange(len(detections)), lengths),
        row=np.arange(n) - np.repeat(np.cumsum(lengths) - lengths, lengths),
        category=np.concatenate(
            [d.category_ids.astype(np.int64) for d in detections] or [empty.astype(np.int64)]
        ),
        score=np.concatenate([d.scores for d in detections] or [empty]).astype(np.float64),
        status=status,
        truth=matched,
        positives=positives,
        missed=tuple(sorted(missed)),
    )


def curve_of(matches: Matches, category: int) -> Curve:
    """Compute precision, recall and F1 of one class for all score thresholds."""
    own = (matches.category == category) & (matches.status != IGNORED)
    order = np.argsort(-matches.score[own], kind="stable")
    scores, right = matches.score[own][order], matches.status[own][order] == RIGHT
    hits, seen = np.cumsum(right), np.arange(1, len(scores) + 1)
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # equal scores share one threshold
    hits, seen, scores = hits[last], seen[last], scores[last]
    positives = matches.positives.get(category, 0)
    precision = hits / np.maximum(seen, 1)
    recall = hits / positives if positives else np.full(len(hits), np.nan)
    f1 = 2 * hits / np.maximum(seen + positives, 1)
    return Curve(scores, precision, recall, f1)


# ------------------------------------------------------------------ tables


def class_table(
    figures: engines.CocoFigures, matches: Matches, curves: Mapping[int, Curve], names: Mapping[int, str]
) -> list[ClassRow]:
    """Compute one row per category, in the order of their ids.

    Args:
        figures: results for the same detections.
        matches: matches at IoU 0.5.
        curves: curves by category id.
        names: names by category id.
    """
    precision, recall = figures.precision[:, :, :, 0, -1], figures.recall[:, :, 0, -1]
    thresholds = np.asarray(figures.params.iouThrs)
    rows = []
    for k, category in enumerate(figures.params.catIds):
        threshold, *best = curves[category].best()
        if matches.positives.get(category) and not np.isfinite(threshold):  # nothing was found
            best[1:] = 0.0, 0.0
        rows.append(
            ClassRow(
                category_id=category,
                name=names.get(category, str(category)),
                objects=matches.positives.get(category, 0),
                detections=int((matches.category == category).sum()),
                ap=_percent(precision[:, :, k]),
                ap50=_percent(precision[np.isclose(thresholds, 0.5), :, k]),
                ap75=_percent(precision[np.isclose(thresholds, 0.75), :, k]),
                ar=_percent(recall[:, k]),
                threshold=threshold,
                precision=100 * best[0],
                recall=100 * best[1],
                f1=100 * best[2],
            )
        )
    return rows


def _percent(values: FloatArray) -> float:
    valid = values[values > -1]
    return 100 * float(valid.mean()) if valid.size else float("nan")


def size_table(figures: engines.CocoFigures) -> dict[str, dict[str, float]]:
    """Compute ``AP``, ``AP50`` and ``AR``, in percent, of each area range."""
    table = {}
    for area in figures.params.areaRngLbl:
        values = {
            "AP": average(figures, area=area),
            "AP50": average(figures, area=area, iou=0.5),
            "AR": average(figures, area=area, recall=True),
        }
        table[area] = {k: 100 * v if v >= 0 else float("nan") for k, v in values.items()}
    return table


def iou_table(figures: engines.CocoFigures) -> dict[float, float]:
    """Compute AP, in percent, at each IoU threshold."""
    curves = figures.precision[..., 0, -1]
    return {round(float(t), 2): _percent(curves[k]) for k, t in enumerate(figures.params.iouThrs)}


def error_types(
    matcher: hotcoco.COCOeval, matches: Matches, truth: GroundTruth, detections: Sequence[ImageDetections]
) -> Errors:
    """Count the errors of each kind, and compute their costs.

    Args:
        matcher: result of :func:`hotcoco_eval`.
        matches: matches at IoU 0.5.
        truth: ground truth.
        detections: one entry per image.
    """
    found = matcher.tide_errors()
    counts = {key: int(found["counts"].get(key, 0)) for key in ERROR_NAMES}
    cost = {key: 100 * float(value) for key, value in found["delta_ap"].items()}
    # TIDE fixes a missed object by removing it from the ground truth. If a class then has no objects, its AP becomes
    # undefined and the misses would cost nothing; in fact they cost the whole AP of the class.
    overlooked = _overlooked(matches, truth, detections)
    share = 100 * len(overlooked) / max(len(matches.positives), 1)
    cost["Miss"] += share
    cost["FN"] += share
    return Errors(counts, cost, 100 * float(found["ap_base"]))


def _overlooked(matches: Matches, truth: GroundTruth, detections: Sequence[ImageDetections]) -> set[int]:
    """Find the categories of which every object was missed, without even a misplaced or misclassified box."""
    missed = set(matches.missed)
    left = Counter(a["category_id"] for a in truth.annotations if a["id"] in missed)
    lost = {c for c, n in matches.positives.items() if n and left[c] == n}
    if not lost:
        return lost
    by_image = {d.image_id: d for d in detections}
    for annotation in truth.annotations:
        found = by_image.get(annotation["image_id"])
        category = annotation["category_id"]
        if annotation["id"] not in missed or category not in lost or found is None:
            continue
        boxes = np.asarray(found.boxes[:, :4], dtype=np.float64)
        iou = box_iou(boxes, np.array([annotation["bbox"]], dtype=np.float64))[:, 0]
        if (iou >= np.where(found.category_ids == category, _BACKGROUND, matches.iou)).any():
            lost.discard(category)
    return lost


def confusion_matrix(
    matcher: hotcoco.COCOeval, names: Mapping[int, str], min_score: float = 0.3, iou: float = 0.5
) -> Confusion:
    """Compute the confusion matrix of the classes, for detections with at least ``min_score``."""
    found = matcher.confusion_matrix(iou_thr=iou, min_score=min_score)
    labels = tuple(names.get(c, str(c)) for c in found["cat_ids"])
    return Confusion(labels, np.asarray(found["matrix"]).astype(np.int64), min_score)


def calibration(matches: Matches, bins: int = 10) -> Calibration:
    """Compare scores with the fraction of correct detections, in bins of equal width.

    Reference: Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599
    """
    judged = matches.status != IGNORED
    score, right = matches.score[judged], matches.status[judged] == RIGHT
    which = np.clip((score * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(which, weights=score, minlength=bins) / count
        accuracy = np.bincount(which, weights=right.astype(np.float64), minlength=bins) / count
    gaps = np.nan_to_num(np.abs(confidence - accuracy)) * count
    ece = float(gaps.sum() / count.sum()) if count.sum() else float("nan")
    return Calibration(np.linspace(0, 1, bins + 1), confidence, accuracy, count, ece)


def worst_images(
    matches: Matches,
    truth: GroundTruth,
    detections: Sequence[ImageDetections],
    thresholds: Mapping[int, float],
    top: int = 12,
) -> list[ImageErrors]:
    """Find the images with the most errors, using a score threshold for each class.

    Args:
        matches: matches of the detections.
        truth: ground truth.
        detections: one entry per image.
        thresholds: score threshold by category id; NaN or missing = 0.5.
        top: largest number of images to return; images without errors are skipped.
    """
    cut = {c: t for c, t in thresholds.items() if np.isfinite(t)}
    limit = np.array([cut.get(c, 0.5) for c in matches.category.tolist()])
    shown = matches.score >= limit
    found = set(matches.truth[shown & (matches.status == RIGHT)].tolist())
    crowd_free = [a for a in truth.annotations if not a["iscrowd"]]
    missed: dict[Any, list[int]] = {}
    ignored = set(matches.truth[matches.status == IGNORED].tolist()) - {0}
    for annotation in crowd_free:
        if annotation["id"] not in found and annotation["id"] not in ignored:
            missed.setdefault(annotation["image_id"], []).append(annotation["id"])
    results = []
    starts = np.searchsorted(matches.image, np.arange(len(detections) + 1))  # detections are ordered by image
    for k, image in enumerate(detections):
        own = slice(starts[k], starts[k + 1])
        wrong = starts[k] + np.flatnonzero(shown[own] & (matches.status[own] == WRONG))
        rows = matches.row[wrong[np.argsort(-matches.score[wrong], kind="stable")]]
        right = int((shown[own] & (matches.status[own] == RIGHT)).sum())
        record = truth.images[image.image_id]
        results.append(
            ImageErrors(
                image.image_id, str(record.get("file_name", "")), right, tuple(rows.tolist()),
                tuple(missed.get(image.image_id, ())),
            )
        )  # fmt: skip
    results = [r for r in results if r.errors]
    return sorted(results, key=lambda r: (-r.errors, str(r.image_id)))[:top]


# ------------------------------------------------------------------ all together


def diagnose(
    truth: GroundTruth,
    detections: Sequence[ImageDetections],
    task: str = "bbox",
    names: Mapping[int, str] | None = None,
    *,
    max_dets: Sequence[int] | None = None,
    top: int = 12,
) -> Diagnosis:
    """Analyse detections.

    Args:
        truth: ground truth.
        detections: one entry per image, with category ids of the ground truth.
        task: ``bbox`` or ``segm``.
        names: class names by category id; None = those of the ground truth.
        max_dets: limits on detections per image.
        top: number of worst images.
    """
    detections = [truth.of_known_categories(d) for d in detections]
    names = names or {c["id"]: str(c.get("name", c["id"])) for c in truth.categories}
    matcher = engines.hotcoco_eval(truth, detections, task, max_dets)
    figures = engines.figures_of(matcher, task)
    matches = match_detections(matcher, truth, detections)
    curves = {c: curve_of(matches, c) for c in figures.params.catIds}
    rows = class_table(figures, matches, curves, names)
    thresholds = {row.category_id: row.threshold for row in rows}
    known = [t for t in thresholds.values() if np.isfinite(t)]
    doubtful = matcher.image_diagnostics(iou_thr=0.5, score_thr=0.8)["label_errors"]
    return Diagnosis(
        task=task,
        summary=headline(figures),
        by_size=size_table(figures),
        by_iou=iou_table(figures),
        classes=tuple(rows),
        curves=curves,
        errors=error_types(matcher, matches, truth, detections),
        confusion=confusion_matrix(matcher, names, float(np.median(known)) if known else 0.5),
        calibration=calibration(matches),
        worst=tuple(worst_images(matches, truth, detections, thresholds, top)),
        doubtful_labels=tuple(sorted(doubtful, key=lambda d: -d["dt_score"])),
        matches=matches,
    )
