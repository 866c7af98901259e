"""The results of a diagnosis, as plain data."""

# Legend: N detections, K categories, B bins.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..coco.detections import ImageId

FloatArray = npt.NDArray[np.float64]

RIGHT, WRONG, IGNORED = 1, 0, -1

ERROR_NAMES = {
    "Cls": "wrong class",
    "Loc": "wrong place",
    "Both": "wrong class and place",
    "Dupe": "found twice",
    "Bkg": "nothing there",
    "Miss": "not found",
}


@dataclass(frozen=True)
class Matches:
    """All detections, and whether they are correct at one IoU threshold.

    Attributes:
        iou: the threshold.
        image: ``[N]`` index of the image in the list of detections.
        row: ``[N]`` index of the detection within its image.
        category: ``[N]`` category id.
        score: ``[N]``.
        status: ``[N]``, one of ``RIGHT``, ``WRONG`` or ``IGNORED`` (in a crowd, or beyond the limit per image).
        truth: ``[N]`` id of the matched annotation, 0 for none.
        positives: number of objects by category id.
        missed: ids of annotations without a matching detection.
    """

    iou: float
    image: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    category: npt.NDArray[np.int64]
    score: FloatArray
    status: npt.NDArray[np.int8]
    truth: npt.NDArray[np.int64]
    positives: dict[int, int]
    missed: tuple[int, ...]


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class at descending score thresholds.

    Attributes:
        score: thresholds, the distinct scores in descending order.
        precision, recall, f1: values at each threshold, in [0, 1].
    """

    score: FloatArray
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray

    def best(self) -> tuple[float, float, float, float]:
        """Return the threshold with the best F1, and precision, recall and F1 there; NaN without correct detections."""
        if not len(self.f1) or self.f1.max() <= 0:
            return (float("nan"),) * 4
        k = int(self.f1.argmax())
        return float(self.score[k]), float(self.precision[k]), float(self.recall[k]), float(self.f1[k])


@dataclass(frozen=True)
class ClassRow:
    """Metrics of one class, in percent; NaN without ground truth.

    ``threshold`` is the score with the best F1 at IoU 0.5; ``precision``, ``recall`` and ``f1`` are the values there.
    Without a correct detection there is no such score; recall and F1 are then 0.
    """

    category_id: int
    name: str
    objects: int
    detections: int
    ap: float
    ap50: float
    ap75: float
    ar: float
    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Errors:
    """Errors by kind, as defined by TIDE (https://arxiv.org/abs/2008.08115).

    Attributes:
        counts: number of errors of each kind, by the keys of ``ERROR_NAMES``.
        cost: gain in AP50 if all errors of a kind were fixed, by the same keys, ``FP`` (all false detections) and
            ``FN`` (all missed objects).
        base: AP50, in percent.
    """

    counts: dict[str, int]
    cost: dict[str, float]
    base: float


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of classes.

    Attributes:
        names: K class names. Row K counts false detections, column K missed objects.
        matrix: ``[K + 1, K + 1]`` counts; rows for ground truth, columns for predictions.
        min_score: score from which detections count.
    """

    names: tuple[str, ...]
    matrix: npt.NDArray[np.int64]
    min_score: float


@dataclass(frozen=True)
class Calibration:
    """Calibration: how well scores agree with probabilities.

    Attributes:
        edges: ``[B + 1]`` edges of the bins of scores.
        confidence: ``[B]`` mean score; NaN in an empty bin.
        accuracy: ``[B]`` fraction of correct detections.
        count: ``[B]`` number of detections.
        ece: expected calibration error: mean of ``|accuracy - confidence|`` over detections.
    """

    edges: FloatArray
    confidence: FloatArray
    accuracy: FloatArray
    count: npt.NDArray[np.int64]
    ece: float


@dataclass(frozen=True)
class ImageErrors:
    """The errors of one image at the best score threshold of each class.

    Attributes:
        image_id, file_name: the image.
        right: number of correct detections.
        false: indices (within the image's detections) of false ones, best score first.
        missed: ids of annotations that were not found.
    """

    image_id: ImageId
    file_name: str
    right: int
    false: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def errors(self) -> int:
        """Number of errors."""
        return len(self.false) + len(self.missed)


@dataclass(frozen=True)
class Difference:
    """A metric of two models, and the confidence interval of their difference (b - a), in percentage points."""

    name: str
    a: float
    b: float
    low: float
    high: float
    probability_better: float

    @property
    def delta(self) -> float:
        """b - a."""
        return self.b - self.a


@dataclass(frozen=True)
class Diagnosis:
    """All results of a diagnosis, for one task."""

    task: str
    summary: dict[str, float]
    by_size: dict[str, dict[str, float]]
    by_iou: dict[float, float]
    classes: tuple[ClassRow, ...]
    curves: dict[int, Curve]
    errors: Errors
    confusion: Confusion
    calibration: Calibration
    worst: tuple[ImageErrors, ...]
    doubtful_labels: tuple[dict[str, Any], ...]
    matches: Matches = field(repr=False)
