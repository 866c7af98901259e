"""Detection of common mistakes that cause an AP of 0 or NaN.

A reason is reported only if the boxes show it. The checks use the best-scored detections of each image, as many as it
has objects: those of a good model lie on the objects, while some of all the (up to a hundred) detections always match by
chance.
"""

# Legend: N detections, M objects.

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..coco.detections import ImageDetections

__all__ = ["POOR", "explain", "sample_of"]

POOR = 0.5  # AP in percent, up to which there is likely a mistake; some boxes always match by chance
_SCALE_SAMPLE = 20  # number of images for estimating a scale
_SCALE_BOXES = 100  # approximate number of boxes per image for estimating a scale
_SAMPLE = 200  # number of images to check
_FEW = 4  # with fewer objects, only conclude that boxes do not match
_FITS = 0.5  # fraction of matched objects from which boxes belong to the objects
_MISSES = 0.15  # fraction of matched objects up to which they do not
_BESIDE = 0.2  # IoU from which a box belongs to an object, even if it is too far off
_UNSURE = 0.5  # scores below which a model is uncertain

FloatArray = npt.NDArray[np.float64]
Records = Mapping[Any, Mapping[str, Any]]
Annotations = Sequence[Mapping[str, Any]]
Pairs = list[tuple[FloatArray, FloatArray]]  # best-scored boxes and objects of each image, both [N, 4] XYWH


def box_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Compute the IoU ``[N, M]`` of XYWH boxes; negative sizes count as empty."""
    inter = _overlap(a[:, 0], a[:, 2], b[:, 0], b[:, 2]) * _overlap(a[:, 1], a[:, 3], b[:, 1], b[:, 3])
    sizes = np.clip(a[:, 2:4], 0, None).prod(-1)[:, None] + np.clip(b[:, 2:4], 0, None).prod(-1)[None]
    return inter / np.maximum(sizes - inter, 1e-12)


def _overlap(
    start: FloatArray, length: FloatArray, other: FloatArray, others_length: FloatArray
) -> FloatArray:
    """Compute how long intervals ``[N]`` and ``[M]`` overlap, ``[N, M]``."""
    low = np.maximum(start[:, None], other)
    high = np.minimum((start + length)[:, None], other + others_length)
    return np.maximum(high - low, 0)


def sample_of(detections: Iterable[ImageDetections]) -> list[ImageDetections]:
    """Return the boxes of the first images with detections, as many as :func:`explain` needs."""
    some = itertools.islice((d for d in detections if len(d)), _SAMPLE)
    return [replace(d, rles=None, areas=None, keypoints=None) for d in some]


def explain(
    images: Records,
    truth: Mapping[Any, Annotations],
    detections: Sequence[ImageDetections],
    class_names: Mapping[int, str] | None = None,
    passed_over: int = 0,
) -> list[str]:
    """Find reasons why detections do not match the ground truth.

    Args:
        images: image records by id.
        truth: COCO annotations by image id.
        detections: one entry per image.
        class_names: name of each category id.
        passed_over: number of detections that were dropped, since the ground truth does not list their categories.

    Returns:
        Sentences, most important first; empty if no reason was found.
    """
    objects = [a for group in truth.values() for a in group]
    if not objects:
        return ["the ground truth has no annotations, so AP is undefined."]
    if all(a.get("iscrowd") for a in objects):
        return ["every annotation is a crowd (iscrowd=1), which is not evaluated, so AP is undefined."]
    found = [d for d in detections if len(d)]
    if not found and passed_over:
        return [
            "the ground truth lists none of the detected categories; if the model's classes are not category ids, load "
            "the dataset before the evaluation."
        ]
    if not found:
        return [
            "the model detected nothing: it is hardly trained yet, its score threshold is too high, or its weights were "
            "not loaded."
        ]
    counted = {i: [a for a in group if not a.get("iscrowd")] for i, group in truth.items()}
    shown = [_best_scored(d, len(counted[d.image_id])) for d in found if counted.get(d.image_id)][:_SAMPLE]
    if not shown:
        return [
            f"the model detected objects in {len(found)} images, but none of these has annotations; check whether the "
            "image ids of predictions and ground truth agree."
        ]
    return _reasons(images, counted, shown, class_names or {})


def _best_scored(found: ImageDetections, count: int) -> ImageDetections:
    return found.chosen(np.argsort(-np.asarray(found.scores), kind="stable")[:count])


def _reasons(
    images: Records, truth: Mapping[Any, Annotations], shown: list[ImageDetections], names: Mapping[int, str]
) -> list[str]:
    boxes = [np.asarray(d.boxes[:, :4], dtype=np.float64) for d in shown]
    pairs = [
        (b, np.array([a["bbox"][:4] for a in truth[d.image_id]], dtype=np.float64))
        for b, d in zip(boxes, shown)
    ]
    fit = _fit(pairs)
    if fit >= _FITS:
        return _class_faults(truth, shown, names)
    if sum(len(t) for _, t in pairs) >= _FEW:
        for reason, reread in _readings([images.get(d.image_id, {}) for d in shown], boxes):
            if fit <= _MISSES and _fit([(b, t) for b, (_, t) in zip(reread, pairs)]) >= _FITS:
                return [
                    f"predicted and annotated boxes match if their format is interpreted differently: apparently {reason}."
                ]
        scale = _scale_between(pairs)
        # A scale of almost 1 would only correct slightly misplaced boxes.
        off = not 0.9 < scale < 1.1
        if off and fit <= _MISSES and _fit([(b * scale, t) for b, t in pairs]) >= _FITS:
            return [
                f"the predicted boxes match when scaled by {scale:.3g}: check whether 'height' and 'width' of the inputs "
                "are those of the original images."
            ]
    return _far_off(pairs, shown)


def _best_overlaps(pairs: Pairs) -> FloatArray:
    """Compute the best IoU of each object with the boxes of its image."""
    return np.concatenate([box_iou(b, t).max(axis=0, initial=0) for b, t in pairs])


def _fit(pairs: Pairs) -> float:
    """Compute the fraction of objects with a box on them, or of boxes on an object, whichever is smaller."""
    objects = float((_best_overlaps(pairs) >= 0.5).mean())
    boxes = np.concatenate([box_iou(b, t).max(axis=1, initial=0) for b, t in pairs])
    return min(objects, float((boxes >= 0.5).mean()))


# ------------------------------------------------------------------ classes


def _class_faults(
    truth: Mapping[Any, Annotations], shown: Sequence[ImageDetections], names: Mapping[int, str]
) -> list[str]:
    """Compare the classes of objects with those of the boxes on them."""
    met: Counter[tuple[int, int]] = Counter()
    for found in shown:
        objects = truth[found.image_id]
        iou = box_iou(
            np.asarray(found.boxes[:, :4], dtype=np.float64),
            np.array([a["bbox"][:4] for a in objects], dtype=np.float64),
        )
        for category, row in zip(found.category_ids.tolist(), iou):
            if row.max() >= 0.5:
                met[category, objects[int(row.argmax())]["category_id"]] += 1
    total = sum(met.values())
    wrong = {pair: n for pair, n in met.items() if pair[0] != pair[1]}
    if total < _FEW or sum(wrong.values()) < 0.9 * total:
        return []
    name = lambda c: f"{c} ({names[c]})" if c in names else str(c)  # noqa: E731
    (predicted, annotated), times = max(wrong.items(), key=lambda item: item[1])
    text = (
        f"boxes lie on the objects, but {sum(wrong.values())} of {total} have another category, such as {name(predicted)} "
        f"for {name(annotated)} ({times} times)"
    )
    if not {p for p, _ in met} & {t for _, t in met}:
        text += "; predicted and annotated categories have none in common"
    if _one_to_one(met):
        text += "; check whether the model was trained with the same thing_dataset_id_to_contiguous_id"
    return [text + "."]


def _one_to_one(met: Mapping[tuple[int, int], int]) -> bool:
    """Return whether predicted and annotated categories correspond one to one."""
    partners: dict[int, Counter[int]] = {}
    for (predicted, annotated), n in met.items():
        partners.setdefault(predicted, Counter())[annotated] += n
    main = [counts.most_common(1)[0] for counts in partners.values()]
    sure = sum(n for _, n in main) >= 0.9 * sum(met.values())
    return sure and len({category for category, _ in main}) == len(main) and len({t for _, t in met}) >= 2


# ------------------------------------------------------------------ boxes


def _readings(
    records: Sequence[Mapping[str, Any]], boxes: Sequence[FloatArray]
) -> Iterator[tuple[str, list[FloatArray]]]:
    """Yield the boxes under other interpretations of their format, each with its meaning."""
    columns = [b.T for b in boxes]
    yield (
        "boxes were converted from corners twice, or never to width and height (bbox_mode XYWH_ABS)",
        [np.stack([x, y, w - x, h - y], 1) for x, y, w, h in columns],
    )
    yield (
        "either predictions are x, y, width, height instead of corners (pred_boxes are XYXY_ABS), or annotations are "
        "corners instead of x, y, width, height (bbox_mode)",
        [np.stack([x, y, w + x, h + y], 1) for x, y, w, h in columns],
    )
    yield ("x and y are swapped in one of the two", [np.stack([y, x, h, w], 1) for x, y, w, h in columns])
    yield (
        "predictions are centers and sizes instead of corners",
        [np.stack([x - w / 2, y - h / 2, w, h], 1) for x, y, w, h in columns],
    )
    sizes = [np.tile([float(r.get("width") or 1), float(r.get("height") or 1)], 2) for r in records]
    yield (
        "predictions are relative to the image size (0 to 1), not in pixels",
        [b * s for b, s in zip(boxes, sizes)],
    )
    yield (
        "annotations are relative to the image size (0 to 1), not in pixels",
        [b / s for b, s in zip(boxes, sizes)],
    )


def _scale_between(pairs: Pairs) -> float:
    """Find the factor by which scaled detections match the ground truth best."""
    ends = [
        np.median(np.concatenate([side[:, :2] + side[:, 2:4] for side in sides if len(side)]), axis=0)
        for sides in zip(*pairs)
    ]
    rough = float(np.mean(ends[1] / np.maximum(ends[0], 1e-9)))
    # Medians are off by a few percent, enough to separate small boxes far from the origin.
    factors = [*(rough * np.geomspace(0.8, 1.25, 45)), 0.25, 0.5, 2.0, 4.0]
    # Among thousands of boxes every few of them show the scale as well.
    some = [(b[:: max(len(b) // _SCALE_BOXES, 1)], t) for b, t in pairs[:_SCALE_SAMPLE]]
    return float(max(factors, key=lambda s: _best_overlaps([(b * s, t) for b, t in some]).mean()))


def _far_off(pairs: Pairs, shown: Sequence[ImageDetections]) -> list[str]:
    """Describe how far off boxes are if there is no other explanation; return nothing if many of them match."""
    best = _best_overlaps(pairs)
    on = float((best >= 0.5).mean())
    score = float(np.median(np.concatenate([d.scores for d in shown])))
    seen = f"of the best-scored boxes, as many as objects, {100 * on:.0f} % lie on an object (IoU of 0.5 or more)"
    if on <= _MISSES and (best >= _BESIDE).mean() >= 0.7:
        return [
            f"predicted boxes lie near the objects, but too far off to match: their mean best IoU is {best.mean():.2f}, "
            "and a match needs 0.5."
        ]
    if on > _FITS:
        return []
    if score < _UNSURE:
        return [
            f"{seen}, and their median score is {score:.2g}: the model is hardly trained yet, or its weights were not loaded."
        ]
    if on <= _MISSES:
        return [
            f"{seen}, although their scores are high (median {score:.2f}): check whether images, image ids and labels "
            "belong together."
        ]
    return []
