"""Metrics computed from the arrays of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

METRICS: dict[str, tuple[str, ...]] = {
    "bbox": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "segm": ("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
}


@dataclass
class CocoFigures:
    """Results of an evaluation before averaging; the arrays are those of ``COCOeval.eval``.

    Attributes:
        iou_type: ``bbox``, ``segm`` or ``keypoints``.
        precision: ``[T, R, K, A, M]``, -1 if a category has no ground truth.
        recall: ``[T, K, A, M]``, -1 if a category has no ground truth.
        scores: ``[T, R, K, A, M]``, score at which each recall is reached.
        params: the parameters, with their names in pycocotools.
    """

    iou_type: str
    precision: FloatArray
    recall: FloatArray
    scores: FloatArray
    params: SimpleNamespace = field(repr=False)

    @property
    def eval(self) -> dict[str, Any]:
        """The arrays, with their names in pycocotools."""
        return {
            "params": self.params,
            "counts": list(self.precision.shape),
            "precision": self.precision,
            "recall": self.recall,
            "scores": self.scores,
        }

    @property
    def stats(self) -> FloatArray:
        """The 12 (keypoints: 10) summary numbers of COCO; -1 where undefined."""
        return summary_numbers(self)


def _mean_of_valid(values: npt.NDArray[np.float64]) -> float:
    """Return the mean of the entries that are defined (not -1); -1 if none is."""
    valid = values[values > -1]
    return float(np.mean(valid)) if valid.size else -1.0


def average(
    figures: CocoFigures, *, recall: bool = False, iou: float | None = None, area: str = "all", cap: int = -1
) -> float:
    """Compute one of COCO's averages, in [0, 1]; -1 if there is nothing to average.

    Args:
        figures: the arrays.
        recall: average recall instead of precision.
        iou: a single IoU threshold; None averages over all.
        area: name of the area range.
        cap: index of the limit on detections per image.
    """
    values = figures.recall if recall else figures.precision
    if iou is not None:
        values = values[np.flatnonzero(np.isclose(figures.params.iouThrs, iou))]
    if area not in figures.params.areaRngLbl:
        return -1.0
    return _mean_of_valid(values[..., figures.params.areaRngLbl.index(area), cap])


def summary_numbers(figures: CocoFigures) -> npt.NDArray[np.float64]:
    """Compute COCO's averages in their usual order: six (keypoints: five) precisions, then the recalls."""
    sizes = ("medium", "large") if figures.iou_type == "keypoints" else ("small", "medium", "large")
    precisions = [average(figures), average(figures, iou=0.5), average(figures, iou=0.75)]
    precisions += [average(figures, area=size) for size in sizes]
    if figures.iou_type == "keypoints":
        recalls = [average(figures, recall=True), average(figures, recall=True, iou=0.5)]
        recalls += [average(figures, recall=True, iou=0.75)]
    else:
        recalls = [average(figures, recall=True, cap=m) for m in range(len(figures.params.maxDets))]
    recalls += [average(figures, recall=True, area=size) for size in sizes]
    return np.array(precisions + recalls)


def headline(figures: CocoFigures) -> dict[str, float]:
    """Return the averages by name, in percent; NaN if there is no ground truth."""
    numbers = summary_numbers(figures)
    names = METRICS[figures.iou_type]
    return {name: float(value * 100) if value >= 0 else float("nan") for name, value in zip(names, numbers)}


def per_category(figures: CocoFigures) -> npt.NDArray[np.float64]:
    """Compute AP of each category, ``[K]`` in percent, over all sizes and with the largest limit; NaN without ground truth."""
    curves = figures.precision[:, :, :, 0, -1]
    averages = (_mean_of_valid(curves[:, :, k]) for k in range(curves.shape[2]))
    return np.array([100 * v if v >= 0 else np.nan for v in averages])


def category_metrics(
    figures: CocoFigures, class_names: Sequence[str], classes: Mapping[int, int]
) -> dict[str, float]:
    """Compute ``{"AP-name": AP}`` in the order of the classes.

    Args:
        figures: the arrays.
        class_names: names of classes ``0 .. K-1``, or of the values of ``classes``, since the things of a panoptic
            dataset are only some of its classes.
        classes: class of each category id.
    """
    numbers = sorted(set(classes.values()))
    if numbers and len(numbers) == len(class_names) <= numbers[-1]:
        classes = {category: numbers.index(k) for category, k in classes.items()}
    by_class = {
        classes[c]: ap for c, ap in zip(figures.params.catIds, per_category(figures).tolist()) if c in classes
    }
    return {f"AP-{name}": by_class.get(k, float("nan")) for k, name in enumerate(class_names)}
