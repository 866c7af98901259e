"""Panoptic quality: matching of segments, and the figures.

Reference: Kirillov et al., Panoptic Segmentation, https://arxiv.org/abs/1801.00868
"""

# Legend: G ground truth segments, P predicted segments, H x W pixels; index 0 of either stands for unlabelled pixels.

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_ID_RANGE = 256**3
_MATCH = 0.5  # two segments of a partition cannot both overlap a third one by more

IntArray = npt.NDArray[np.int64]


class SegmentLookup:
    """Replaces segment ids (24 bits) by small numbers, with one table that is reused for every image."""

    def __init__(self) -> None:
        self._table = np.zeros(_ID_RANGE, dtype=np.uint16)

    def __call__(self, ids: IntArray, known: Sequence[int], what: str) -> IntArray:
        """Position (from 1) of each pixel's id in ``known``; 0 where nothing is labelled (id 0).

        Raises:
            ValueError: when the picture holds an id that is not known, or an id is given twice.
        """
        outside = [i for i in known if not 0 < i < _ID_RANGE]
        if outside or len(set(known)) != len(known):
            raise ValueError(
                f"{what}: segment ids must be different and from 1 to 2^24 - 1, got {outside or sorted(known)}"
            )
        index = np.asarray(known, dtype=np.int64)
        self._table[index] = np.arange(1, len(known) + 1)
        numbers = self._table[ids].astype(np.int64)
        self._table[index] = 0
        stray = (numbers == 0) & (ids != 0)
        if stray.any():
            raise ValueError(
                f"{what}: the picture has segment id {int(ids[stray][0])}, which its segments_info lacks"
            )
        return numbers


@dataclass
class PanopticCounts:
    """Matches of any number of images, by category; those of several processes add up exactly.

    Attributes:
        ious: IoU of each matched pair.
        missed: unmatched ground truth segments.
        wrong: unmatched predicted segments.
    """

    ious: dict[int, list[float]] = field(default_factory=dict)
    missed: dict[int, int] = field(default_factory=dict)
    wrong: dict[int, int] = field(default_factory=dict)

    def merge(self, others: Iterable[PanopticCounts]) -> PanopticCounts:
        """These counts and others in one."""
        total = PanopticCounts()
        for part in [self, *others]:
            for category, ious in part.ious.items():
                total.ious.setdefault(category, []).extend(ious)
            for mine, theirs in ((total.missed, part.missed), (total.wrong, part.wrong)):
                for category, n in theirs.items():
                    mine[category] = mine.get(category, 0) + n
        return total

    def add_image(
        self,
        truth: IntArray,
        truth_info: Sequence[Mapping[str, Any]],
        found: IntArray,
        found_info: Sequence[Mapping[str, Any]],
    ) -> None:
        """Count one image.

        Args:
            truth: ``[H, W]``, 0 for unlabelled pixels, n for the n-th segment of ``truth_info``.
            truth_info: segments with ``category_id`` and perhaps ``iscrowd`` and ``area``.
            found: as ``truth``, of the prediction.
            found_info: segments with ``category_id``.
        """
        g, p = len(truth_info), len(found_info)
        pairs = np.bincount(truth.reshape(-1) * (p + 1) + found.reshape(-1), minlength=(g + 1) * (p + 1))
        shared = pairs.reshape(g + 1, p + 1)  # pixels that a ground truth and a predicted segment share
        truth_class = np.array([s["category_id"] for s in truth_info], dtype=np.int64)
        found_class = np.array([s["category_id"] for s in found_info], dtype=np.int64)
        crowd = np.array([bool(s.get("iscrowd", 0)) for s in truth_info], dtype=bool)
        area = np.array(
            [s.get("area", a) for s, a in zip(truth_info, shared[1:].sum(axis=1))], dtype=np.float64
        )
        found_area = shared[:, 1:].sum(axis=0)

        # pixels without ground truth count neither for nor against a prediction
        union = area[:, None] + (found_area - shared[0, 1:])[None] - shared[1:, 1:]
        iou = shared[1:, 1:] / np.maximum(union, 1)
        match = (iou > _MATCH) & (truth_class[:, None] == found_class[None]) & ~crowd[:, None]
        for i, j in zip(*np.nonzero(match)):
            self.ious.setdefault(int(truth_class[i]), []).append(float(iou[i, j]))
        for category in truth_class[~match.any(axis=1) & ~crowd].tolist():
            self.missed[category] = self.missed.get(category, 0) + 1
        # a prediction that lies for the most part where nothing is labelled, or in a crowd of its class, is no error
        own_crowd = crowd[:, None] & (truth_class[:, None] == found_class[None])
        excused = shared[0, 1:] + (shared[1:, 1:] * own_crowd).sum(axis=0)
        error = ~match.any(axis=0) & (excused <= 0.5 * found_area)
        for category in found_class[error].tolist():
            self.wrong[category] = self.wrong.get(category, 0) + 1

    def per_category(self) -> dict[int, tuple[float, float, float]]:
        """PQ, SQ and RQ in [0, 1] of every category that occurs."""
        figures = {}
        for category in sorted({*self.ious, *self.missed, *self.wrong}):
            ious = self.ious.get(category, [])
            weight = len(ious) + 0.5 * (self.wrong.get(category, 0) + self.missed.get(category, 0))
            total = math.fsum(ious)  # exact, so that the order of images does not matter
            figures[category] = (total / weight, total / len(ious) if ious else 0.0, len(ious) / weight)
        return figures


def panoptic_results(counts: PanopticCounts, is_thing: Mapping[int, bool]) -> dict[str, float]:
    """Mean PQ, SQ and RQ in percent: of all categories, of things (``_th``) and of stuff (``_st``).

    Args:
        counts: of all images.
        is_thing: whether each category is one of things.
    """
    figures = counts.per_category()
    results = {}
    for suffix, wanted in (("", (True, False)), ("_th", (True,)), ("_st", (False,))):
        chosen = [f for c, f in figures.items() if is_thing[c] in wanted]
        for k, name in enumerate(("PQ", "SQ", "RQ")):
            mean = math.fsum(f[k] for f in chosen) / len(chosen) if chosen else float("nan")
            results[name + suffix] = 100 * mean
    return results
