"""Assigning detections to ground truth, as COCO's evaluation does, and what counts for nothing.

Reference: https://cocodataset.org/#detection-eval
"""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["match_detections"]

Bools = npt.NDArray[np.bool_]

_SAME_OBJECT = 0.8
"""box IoU from which an unmatched detection is taken to be of an object that is not judged"""


def _best_partner(
    similarities: npt.NDArray[Any], free: Bools, ignored: Bools, threshold: float
) -> int | None:
    """Return the most similar ground truth; one that is judged goes before one that is not, and of equals the last."""
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

    Each detection, the best first, takes the most similar free ground truth. One that finds none, but whose box
    covers a free object that is not judged, does not count as wrong.

    Args:
        similarities: (D, G), in [0, 1], of the detections, the best first, to the ground truth.
        box_ious: (D, G) of their boxes.
        ignored: (G,) ground truth that is not judged.
        crowd: (G,) ground truth that several detections may match.
        thresholds: (T,) least similarities.

    Returns:
        (T, D) number of the ground truth of each detection, -1 for none; and (T, D) whether the detection counts
        for nothing.
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
