"""Comparison of two models on the same images, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence

from ..coco import engines as engines
from ..coco.detections import ImageDetections
from ..coco.truth import GroundTruth
from .findings import Difference

__all__ = ["Difference", "compare_models"]


def compare_models(
    truth: GroundTruth,
    a: Sequence[ImageDetections],
    b: Sequence[ImageDetections],
    task: str = "bbox",
    *,
    samples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Difference]:
    """Compute the metrics of two models on the same images, with confidence intervals of their differences.

    Images are resampled with replacement (bootstrap); both models are evaluated on the same samples.

    Args:
        truth: ground truth.
        a: detections of the first model.
        b: detections of the second model.
        task: ``bbox``, ``segm`` or ``keypoints``.
        samples: number of bootstrap samples.
        confidence: confidence level of the intervals.
        seed: random seed.

    Returns:
        One entry per metric of COCO's summary that is defined.
    """
    import hotcoco

    a, b = ([truth.of_known_categories(d) for d in side] for side in (a, b))
    first, second = (engines.hotcoco_eval(truth, d, task) for d in (a, b))
    # hotcoco uses consecutive seeds for its samples; keep those of different seeds disjoint.
    found = hotcoco.compare(
        first, second, n_bootstrap=samples, seed=(seed << 32) % 2**63, confidence=confidence
    )
    differences = []
    for name in found["metric_keys"]:
        value_a, value_b = found["metrics_a"][name], found["metrics_b"][name]
        interval = (found["ci"] or {}).get(name)
        if value_a < 0 or value_b < 0 or interval is None:
            continue
        differences.append(
            Difference(
                name, 100 * value_a, 100 * value_b, 100 * interval["lower"], 100 * interval["upper"],
                float(interval["prob_positive"]),
            )
        )  # fmt: skip
    return differences
