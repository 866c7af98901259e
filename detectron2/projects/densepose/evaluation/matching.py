"""Match detections to ground truth as in COCO's evaluation, and determine ignored detections.

Reference: https://cocodataset.org/#detection-eval
"""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["match_detections"]

Bools = npt.NDArray[np.bool_]

_SAME_OBJECT = 0.8
"""minimum box IoU with an ignored object for an unmatched detection to be ignored"""


def _best_partner(
    similarities: npt.NDArray[Any], free: Bools, ignored: Bools, threshold: float
) -> int | None:
    """Return the most similar ground truth, preferring evaluated over ignored ones, and the last one of ties."""
    for group in (~ignored, ignored):
        candidates = np.flatnonzero(free & group & (similarities >= threshold) & (similarities > 0))
        if len(candidates):
            values = similarities[candidates]
            return int(candidates[len(values) - 1 - int(values[::-1].argmax())])
    return None


def match_detections(
    similarities: npt.NDArray[Any],
    box_ious: npt.NDArray[Any],
    ignored: Bools,
    crowd: Bools,
    thresholds: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.int64], Bools]:
    """Match detections at several thresholds.

    Each detection, best first, takes the most similar free ground truth. An unmatched detection whose box covers a free
    ignored object is ignored.

    Args:
        similarities: (D, G) similarities in [0, 1] of the detections, best first, to the ground truth.
        box_ious: (D, G) IoUs of their boxes.
        ignored: (G,) whether ground truth is ignored.
        crowd: (G,) whether several detections may match the ground truth.
        thresholds: (T,) minimum similarities.

    Returns:
        (T, D) index of the ground truth of each detection, -1 = none; and (T, D) whether the detection is ignored.
    """
    shape = (len(thresholds), len(similarities))
    partner = np.full(shape, -1, dtype=np.int64)
    unjudged = np.zeros(shape, dtype=bool)
    for t, threshold in enumerate(thresholds):
        free = np.ones(len(ignored), dtype=bool)
        for d, row in enumerate(similarities):
            found = _best_partner(row, free, ignored, min(threshold, 1 - 1e-10))
            if found is not None:
                partner[t, d], unjudged[t, d] = found, ignored[found]
                free[found] = crowd[found]
        for d in np.flatnonzero(partner[t] < 0).tolist():
            found = _best_partner(box_ious[d], free, ignored, _SAME_OBJECT)
            if found is not None:
                unjudged[t, d] = ignored[found]
                if ignored[found]:
                    partner[t, d] = found
                    free[found] = crowd[found]
    return partner, unjudged
