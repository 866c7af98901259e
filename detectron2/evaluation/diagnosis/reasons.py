"""Why a figure is 0 or undefined: the usual mistakes, looked for in the data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..coco.detections import ImageDetections

POOR = 0.5  # AP in percent, up to which something is likely to be wrong; some boxes always fit by chance
_SCALE_SAMPLE = 20  # of them, to find a scale
_SAMPLE = 200  # images looked at
_GOOD, _NONE = 0.3, 0.05  # mean best IoU of boxes that fit; of boxes that have nothing to do with each other

Boxes4 = npt.NDArray[np.float64]


def box_iou(a: Boxes4, b: Boxes4) -> Boxes4:
    """IoU ``[N, M]`` of XYWH boxes; negative sizes count as empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:4], b[None, :, :2] + b[None, :, 2:4])
    inter = np.clip(high - low, 0, None).prod(-1)
    sizes = np.clip(a[:, 2:4], 0, None).prod(-1)[:, None] + np.clip(b[:, 2:4], 0, None).prod(-1)[None]
    return inter / np.maximum(sizes - inter, 1e-12)


def _reread(boxes: Boxes4, image: Mapping[str, Any]) -> dict[str, Boxes4]:
    """Reinterpret the same numbers under other box formats."""
    w, h = float(image.get("width") or 0), float(image.get("height") or 0)
    x, y, bw, bh = boxes.T
    readings = {
        "boxes were converted from corners once too often, or never to width and height (bbox_mode XYWH_ABS)": np.stack(
            [x, y, bw - x, bh - y], 1
        ),
        "either predictions are x, y, width, height where corners are meant (pred_boxes are XYXY_ABS), or annotations "
        "are corners where x, y, width, height are meant (bbox_mode)": np.stack([x, y, bw + x, bh + y], 1),
        "x and y are swapped in one of the two": np.stack([y, x, bh, bw], 1),
        "predictions are centres and sizes where corners are meant": np.stack(
            [x - bw / 2, y - bh / 2, bw, bh], 1
        ),
    }
    if w and h:
        readings["predictions are relative to the image size (0 to 1), not in pixels"] = boxes * [w, h, w, h]
        readings["annotations are relative to the image size (0 to 1), not in pixels"] = boxes / [w, h, w, h]
    return readings


def _overlap(found: Sequence[Boxes4], truth: Sequence[Boxes4]) -> float:
    """Mean over ground truths of the best IoU with any detection."""
    best = [box_iou(f, t).max(0) if len(f) else np.zeros(len(t)) for f, t in zip(found, truth)]
    return float(np.concatenate(best).mean()) if best else 0.0


def _scale_between(found: Sequence[Boxes4], truth: Sequence[Boxes4]) -> float:
    """Factor by which detections must be scaled to fit the ground truth best."""
    ends = [
        np.median(np.concatenate([(b[:, :2] + b[:, 2:4]) for b in boxes if len(b)]), axis=0)
        for boxes in (truth, found)
    ]
    rough = float(np.mean(ends[0] / np.maximum(ends[1], 1e-9)))
    # medians are off by some percent, at which small boxes far from the origin do not touch any more
    factors = [*(rough * np.geomspace(0.8, 1.25, 45)), 0.25, 0.5, 2.0, 4.0]
    some = slice(None, _SCALE_SAMPLE)
    return float(max(factors, key=lambda s: _overlap([f * s for f in found[some]], truth[some])))


def sample_of(detections: Iterable[ImageDetections]) -> list[ImageDetections]:
    """As many images with detections as :func:`explain` looks at."""
    return list(itertools.islice((d for d in detections if len(d)), _SAMPLE))


def explain(
    images: Mapping[Any, Mapping[str, Any]],
    truth: Mapping[Any, Sequence[Mapping[str, Any]]],
    detections: Sequence[Any],
    class_names: Mapping[int, str] | None = None,
) -> list[str]:
    """Reasons why detections and ground truth do not meet.

    Args:
        images: image records by id.
        truth: COCO annotations by image id.
        detections: :class:`ImageDetections`, one per image.
        class_names: name of each category id.

    Returns:
        Sentences, most telling first; empty when nothing stands out.
    """
    objects = [a for group in truth.values() for a in group]
    if not objects:
        return ["the ground truth has no annotations: there is nothing to find, so that AP is undefined."]
    if all(a.get("iscrowd") for a in objects):
        return ["every annotation is a crowd (iscrowd=1), and crowds are not counted: AP is undefined."]
    if not any(len(d) for d in detections):
        return [
            "the model detected nothing; is its score threshold too high, or are its weights loaded at all?"
        ]
    pairs = [d for d in detections if len(d) and len(truth.get(d.image_id, ()))][:_SAMPLE]
    if not pairs:
        return [
            "no image with annotations has a detection; do the image ids of predictions and ground truth agree?"
        ]
    return _class_faults(objects, detections, class_names or {}) + _box_faults(images, truth, pairs)


def _class_faults(
    objects: Sequence[Mapping[str, Any]], detections: Sequence[Any], names: Mapping[int, str]
) -> list[str]:
    wanted = {a["category_id"] for a in objects}
    found = set(np.concatenate([d.category_ids for d in detections]).tolist())
    if wanted & found:
        return []
    show = lambda ids: ", ".join(f"{i} ({names[i]})" if i in names else str(i) for i in sorted(ids)[:5])  # noqa: E731
    return [
        f"predicted categories [{show(found)}] and annotated ones [{show(wanted)}] have none in common: "
        "is thing_dataset_id_to_contiguous_id the one that the model was trained with?"
    ]


def _box_faults(
    images: Mapping[Any, Mapping[str, Any]], truth: Mapping[Any, Any], pairs: Sequence[Any]
) -> list[str]:
    found = [np.asarray(d.boxes[:, :4], dtype=np.float64) for d in pairs]
    wanted = [np.array([a["bbox"][:4] for a in truth[d.image_id]], dtype=np.float64) for d in pairs]
    overlap = _overlap(found, wanted)
    if overlap >= _GOOD:
        return [
            f"boxes lie well (mean best IoU {overlap:.2f}, classes ignored): the classes are what does not fit."
        ]
    for k, reading in enumerate(_reread(found[0], images.get(pairs[0].image_id, {}))):
        other = [list(_reread(f, images.get(d.image_id, {})).values())[k] for f, d in zip(found, pairs)]
        if _overlap(other, wanted) >= max(_GOOD, 2 * overlap):
            return [
                f"predicted and annotated boxes fit if they are read differently: it seems that {reading}."
            ]
    scale = _scale_between(found, wanted)
    if _overlap([f * scale for f in found], wanted) >= max(_GOOD, 2 * overlap):
        return [
            f"the predicted boxes fit when scaled by {scale:.3g}: are 'height' and 'width' of the inputs those of "
            "the original images?"
        ]
    if overlap < _NONE:
        return [
            f"predicted boxes hardly touch annotated ones (mean best IoU {overlap:.3f}): an untrained model?"
        ]
    return [f"predicted boxes are too far off to count (mean best IoU {overlap:.2f}, 0.5 is needed)."]
