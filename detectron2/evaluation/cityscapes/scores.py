"""Cityscapes metrics, counted image by image.

Reference: Cordts et al., The Cityscapes Dataset, https://arxiv.org/abs/1604.01685, section 4, and the benchmark's
definitions of AP, IoU and iIoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

OVERLAPS = tuple(t / 100 for t in range(50, 100, 5))
_MIN_PIXELS = 100  # smaller instances are ignored
_GROUP = 1000  # smaller ids are class ids, of groups without separate instances

IntArray = npt.NDArray[np.int64]


class Label(NamedTuple):
    """A class of Cityscapes."""

    name: str
    id: int
    category: str
    has_instances: bool = False
    ignored: bool = False


LABELS = (
    Label("unlabeled", 0, "void", ignored=True), Label("ego vehicle", 1, "void", ignored=True),
    Label("rectification border", 2, "void", ignored=True), Label("out of roi", 3, "void", ignored=True),
    Label("static", 4, "void", ignored=True), Label("dynamic", 5, "void", ignored=True),
    Label("ground", 6, "void", ignored=True), Label("road", 7, "flat"), Label("sidewalk", 8, "flat"),
    Label("parking", 9, "flat", ignored=True), Label("rail track", 10, "flat", ignored=True),
    Label("building", 11, "construction"), Label("wall", 12, "construction"), Label("fence", 13, "construction"),
    Label("guard rail", 14, "construction", ignored=True), Label("bridge", 15, "construction", ignored=True),
    Label("tunnel", 16, "construction", ignored=True), Label("pole", 17, "object"),
    Label("polegroup", 18, "object", ignored=True), Label("traffic light", 19, "object"),
    Label("traffic sign", 20, "object"), Label("vegetation", 21, "nature"), Label("terrain", 22, "nature"),
    Label("sky", 23, "sky"), Label("person", 24, "human", True), Label("rider", 25, "human", True),
    Label("car", 26, "vehicle", True), Label("truck", 27, "vehicle", True), Label("bus", 28, "vehicle", True),
    Label("caravan", 29, "vehicle", True, True), Label("trailer", 30, "vehicle", True, True),
    Label("train", 31, "vehicle", True), Label("motorcycle", 32, "vehicle", True),
    Label("bicycle", 33, "vehicle", True),
)  # fmt: skip
BY_NAME = {label.name: label for label in LABELS}
SEMANTIC = tuple(label for label in LABELS if not label.ignored)  # in the order of the 19 training classes
INSTANCE = tuple(label for label in SEMANTIC if label.has_instances)
CATEGORIES = tuple(dict.fromkeys(label.category for label in SEMANTIC))
# Mean number of pixels of an instance in the training set, by which iIoU weights instances.
_MEAN_SIZE = {
    "person": 3462.4756337644, "rider": 3930.4788056518, "car": 12794.0202738185, "truck": 27855.1264367816,
    "bus": 35732.1511111111, "train": 67583.7075812274, "motorcycle": 6298.7200839748, "bicycle": 4672.3249222261,
}  # fmt: skip


# ------------------------------------------------------------------ semantic


@dataclass
class SemanticCounts:
    """Pixel counts of any number of images.

    Attributes:
        confusion: ``[34, 34]``, rows for ground truth, columns for predictions.
        by_class, by_category: for each instance its class id or category, and its numbers of correct and of missed
            pixels, weighted by the mean size of its class divided by its own size.
    """

    confusion: IntArray = field(default_factory=lambda: np.zeros((len(LABELS), len(LABELS)), dtype=np.int64))
    by_class: list[tuple[int, float, float]] = field(default_factory=list)
    by_category: list[tuple[str, float, float]] = field(default_factory=list)

    def add_image(self, truth: IntArray, predicted: IntArray, instances: IntArray) -> None:
        """Count one image.

        Args:
            truth: ``[H, W]`` label ids.
            predicted: ``[H, W]`` label ids.
            instances: ``[H, W]`` instance ids: ``label * 1000 + number``, or the label itself.
        """
        n = len(LABELS)
        valid = (truth >= 0) & (truth < n)  # license plates, -1, are ignored
        self.confusion += np.bincount(truth[valid] * n + predicted[valid], minlength=n * n).reshape(n, n)
        for instance in np.unique(instances[instances >= _GROUP]).tolist():
            label = LABELS[instance // _GROUP]
            if label.ignored or not label.has_instances:
                continue
            inside = predicted[instances == instance]
            weight = _MEAN_SIZE[label.name] / len(inside)
            right = int((inside == label.id).sum())
            self.by_class.append((label.id, right * weight, (len(inside) - right) * weight))
            group = [other.id for other in SEMANTIC if other.category == label.category]
            right = int(np.isin(inside, group).sum())
            self.by_category.append((label.category, right * weight, (len(inside) - right) * weight))

    def add(self, other: SemanticCounts) -> None:
        """Add the counts of other images."""
        self.confusion += other.confusion
        self.by_class += other.by_class
        self.by_category += other.by_category

    def figures(self) -> dict[str, float]:
        """Compute ``IoU``, ``iIoU`` (classes), ``IoU_sup`` and ``iIoU_sup`` (categories), in percent."""
        classes = [([s.id], [(a, b) for c, a, b in self.by_class if c == s.id]) for s in SEMANTIC]
        groups = [
            (
                [s.id for s in SEMANTIC if s.category == name],
                [(a, b) for c, a, b in self.by_category if c == name],
            )
            for name in CATEGORIES
        ]
        return {
            "IoU": _nanmean([self._iou(ids) for ids, _ in classes]),
            "iIoU": _nanmean([self._weighted_iou(ids, found) for ids, found in classes if found]),
            "IoU_sup": _nanmean([self._iou(ids) for ids, _ in groups]),
            "iIoU_sup": _nanmean([self._weighted_iou(ids, found) for ids, found in groups if found]),
        }

    def _false_positives(self, ids: Sequence[int]) -> int:
        others = [s.id for s in SEMANTIC if s.id not in ids]
        return int(self.confusion[np.ix_(others, ids)].sum())

    def _iou(self, ids: Sequence[int]) -> float:
        right = int(self.confusion[np.ix_(ids, ids)].sum())
        whole = int(self.confusion[ids].sum()) + self._false_positives(ids)
        return right / whole if whole else float("nan")

    def _weighted_iou(self, ids: Sequence[int], found: Sequence[tuple[float, float]]) -> float:
        # Sorted, so that rounding does not depend on the order of images.
        right, missed = np.sort(np.array(found), axis=0).sum(axis=0)
        return float(right / (right + missed + self._false_positives(ids)))


def _nanmean(values: Sequence[float]) -> float:
    valid = [v for v in values if not np.isnan(v)]
    return 100 * float(np.mean(valid)) if valid else float("nan")


# ------------------------------------------------------------------ instances


class InstanceRecord(NamedTuple):
    """Annotated and predicted instances of one class in one image: G and P of them."""

    order: str  # name of the image
    label: int
    truth_pixels: IntArray  # [G]
    is_group: npt.NDArray[np.bool_]  # [G]
    pixels: IntArray  # [P] pixels of predictions
    scores: npt.NDArray[np.float64]  # [P]
    void: IntArray  # [P] pixels of predictions in ignored regions
    shared: IntArray  # [P, G] pixels of intersections


def compare_instances(
    name: str, instances: IntArray, masks: npt.NDArray[np.bool_], labels: IntArray, scores: npt.NDArray
) -> list[InstanceRecord]:
    """Compute the overlaps of predicted and annotated instances of an image, by class.

    Args:
        name: name of the image.
        instances: ``[H, W]`` instance ids.
        masks: ``[P, H, W]``.
        labels: ``[P]`` label ids.
        scores: ``[P]``.
    """
    ids, numbers = np.unique(instances, return_inverse=True)
    numbers = numbers.reshape(instances.shape)
    pixels_of = np.bincount(numbers.reshape(-1), minlength=len(ids))
    label_of = np.where(ids >= _GROUP, ids // _GROUP, ids)
    shared = np.stack([np.bincount(numbers[m], minlength=len(ids)) for m in masks]) if len(masks) else None
    table = np.zeros((0, len(ids)), dtype=np.int64) if shared is None else shared  # [P, ids]
    void = np.isin(label_of, [label.id for label in LABELS if label.ignored]) | (label_of < 0)
    records = []
    for label in INSTANCE:
        own = np.flatnonzero(label_of == label.id)
        found = np.flatnonzero((labels == label.id) & (table.sum(axis=1) > 0))
        if len(own) or len(found):
            rows = table[found]
            records.append(
                InstanceRecord(
                    name,
                    label.id,
                    pixels_of[own],
                    ids[own] < _GROUP,
                    rows.sum(axis=1),
                    scores[found].astype(np.float64),
                    rows[:, void].sum(axis=1),
                    rows[:, own],
                )
            )
    return records


def _judge(record: InstanceRecord, overlap: float) -> tuple[list[tuple[float, bool]], int, int]:
    """Return (score, correct) of the predictions of an image, its number of objects, and how many were missed."""
    union = record.pixels[:, None] + record.truth_pixels[None] - record.shared
    match = record.shared / np.maximum(union, 1) > overlap  # [P, G]
    asked = ~record.is_group & (record.truth_pixels >= _MIN_PIXELS)
    judged: list[tuple[float, bool]] = []
    missed = 0
    for g in np.flatnonzero(asked):
        rivals = np.sort(record.scores[match[:, g]])[::-1].tolist()
        judged += [(score, k == 0) for k, score in enumerate(rivals)]  # only the best is correct
        missed += not rivals
    lost = ~match[:, asked].any(axis=1)
    excused = record.void + (record.shared * ~asked[None]).sum(axis=1)
    wrong = lost & (excused <= overlap * record.pixels)
    judged += [(score, False) for score in record.scores[wrong].tolist()]
    return judged, int(asked.sum()), missed


def _average_precision(judged: Sequence[tuple[float, bool]], missed: int) -> float:
    """Compute the area under the precision-recall curve over all distinct score thresholds."""
    if not judged:
        return 0.0
    scores, right = (np.array(column) for column in zip(*judged))
    order = np.argsort(scores, kind="stable")
    scores, right = scores[order], right[order].astype(np.float64)
    first = np.unique(scores, return_index=True)[1]  # each threshold keeps all scores from here on
    kept = len(scores) - first
    below = np.concatenate([[0.0], np.cumsum(right)])[first]
    hits = right.sum() - below
    with np.errstate(invalid="ignore"):
        recall = np.append(np.nan_to_num(hits / (hits + below + missed)), 0.0)
    precision = np.append(hits / kept, 1.0)
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(np.dot(precision, (padded[:-2] - padded[2:]) / 2))


def instance_figures(records: Sequence[InstanceRecord]) -> dict[str, float]:
    """Compute ``AP`` (mean over IoU 0.5 to 0.95) and ``AP50`` in percent, averaged over the classes with objects."""
    ordered = sorted(records, key=lambda r: (r.order, r.label))
    table = np.full((len(INSTANCE), len(OVERLAPS)), np.nan)
    for k, label in enumerate(INSTANCE):
        own = [r for r in ordered if r.label == label.id]
        for t, overlap in enumerate(OVERLAPS):
            parts = [_judge(r, overlap) for r in own]
            if sum(p[1] for p in parts):
                judged = [j for p in parts for j in p[0]]
                table[k, t] = _average_precision(judged, sum(p[2] for p in parts))
    return {"AP": _nanmean(table.reshape(-1).tolist()), "AP50": _nanmean(table[:, 0].tolist())}
