"""Panoptic quality: matching of segments, and the metrics.

Reference: Kirillov et al., Panoptic Segmentation, https://arxiv.org/abs/1801.00868
"""

# Legend: G ground truth segments, P predicted segments, H x W pixels; index 0 of both = unlabelled pixels.

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_ID_RANGE = 256**3
_MATCH = 0.5  # at most one segment can have a larger IoU with another one

IntArray = npt.NDArray[np.int64]


def shared_pixels(truth: npt.NDArray, found: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray, IntArray]:
    """Return the pairs of ids at the same pixels.

    Ids rarely change along a row, so this counts runs of equal pairs, not pixels.

    Args:
        truth: ``[H, W]`` ids.
        found: ``[H, W]`` ids.

    Returns:
        The id of ``truth``, the id of ``found`` and the number of pixels of each run.
    """
    a, b = truth.reshape(-1), found.reshape(-1)
    if not a.size:
        return a, b, np.zeros(0, dtype=np.int64)
    changes = a[1:] != a[:-1]
    changes |= b[1:] != b[:-1]
    starts = np.append(0, np.flatnonzero(changes) + 1)
    return a[starts], b[starts], np.diff(starts, append=a.size)


def positions(ids: npt.NDArray, known: Sequence[int], what: str) -> IntArray:
    """Return the position (from 1) of each id in ``known``; 0 for unlabelled pixels (id 0).

    Raises:
        ValueError: if an id is not in ``known``, or ``known`` has duplicates.
    """
    outside = [i for i in known if not 0 < i < _ID_RANGE]
    if outside or len(set(known)) != len(known):
        raise ValueError(
            f"{what}: segment ids must be different and from 1 to 2^24 - 1, got {outside or sorted(known)}"
        )
    table = np.array([0, *known], dtype=np.int64)
    order = np.argsort(table)
    place = order[np.minimum(np.searchsorted(table, ids, sorter=order), len(known))]
    stray = table[place] != ids
    if stray.any():
        raise ValueError(
            f"{what}: the image has segment id {int(ids[stray][0])}, which its segments_info lacks"
        )
    return place


@dataclass
class PanopticCounts:
    """Matches of any number of images, by category; those of several processes can be merged exactly.

    Attributes:
        ious: IoU of each matched pair.
        missed: number of unmatched ground truth segments.
        wrong: number of unmatched predicted segments.
    """

    ious: dict[int, list[float]] = field(default_factory=dict)
    missed: dict[int, int] = field(default_factory=dict)
    wrong: dict[int, int] = field(default_factory=dict)

    def merge(self, others: Iterable[PanopticCounts]) -> PanopticCounts:
        """Return the sum of these and other counts."""
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
        truth: npt.NDArray,
        truth_info: Sequence[Mapping[str, Any]],
        found: npt.NDArray,
        found_info: Sequence[Mapping[str, Any]],
        what: tuple[str, str] = ("ground truth", "prediction"),
    ) -> None:
        """Count one image.

        Args:
            truth: ``[H, W]`` segment ids of the ground truth, 0 for unlabelled pixels.
            truth_info: segments with ``id``, ``category_id`` and, optionally, ``iscrowd`` and ``area``.
            found: ``[H, W]`` segment ids of the prediction.
            found_info: segments with ``id`` and ``category_id``; those without pixels are ignored.
            what: names of ground truth and prediction, for errors.
        """
        truth_ids, found_ids, pixels = shared_pixels(truth, found)
        rows = positions(truth_ids, [s["id"] for s in truth_info], what[0])
        columns = positions(found_ids, [s["id"] for s in found_info], what[1])
        g, p = len(truth_info), len(found_info)
        # Sums of integers below 2^53 are exact.
        pairs = np.bincount(rows * (p + 1) + columns, weights=pixels, minlength=(g + 1) * (p + 1))
        shared = pairs.astype(np.int64).reshape(g + 1, p + 1)
        # Ignore segments that other segments cover completely.
        there = np.flatnonzero(shared[:, 1:].sum(axis=0) > 0)
        self._add_table(
            shared[:, np.append(0, there + 1)], truth_info, [found_info[k] for k in there.tolist()]
        )

    def _add_table(
        self,
        shared: IntArray,
        truth_info: Sequence[Mapping[str, Any]],
        found_info: Sequence[Mapping[str, Any]],
    ) -> None:
        """Count one image.

        Args:
            shared: ``[G + 1, P + 1]`` pixels that a ground truth and a predicted segment share.
            truth_info: G segments.
            found_info: P segments.
        """
        truth_class = np.array([s["category_id"] for s in truth_info], dtype=np.int64)
        found_class = np.array([s["category_id"] for s in found_info], dtype=np.int64)
        crowd = np.array([bool(s.get("iscrowd", 0)) for s in truth_info], dtype=bool)
        area = np.array(
            [s.get("area", a) for s, a in zip(truth_info, shared[1:].sum(axis=1))], dtype=np.float64
        )
        found_area = shared[:, 1:].sum(axis=0)

        # Unlabelled pixels are not part of a prediction's area.
        union = area[:, None] + (found_area - shared[0, 1:])[None] - shared[1:, 1:]
        iou = shared[1:, 1:] / np.maximum(union, 1)
        match = (iou > _MATCH) & (truth_class[:, None] == found_class[None]) & ~crowd[:, None]
        for i, j in zip(*np.nonzero(match)):
            self.ious.setdefault(int(truth_class[i]), []).append(float(iou[i, j]))
        for category in truth_class[~match.any(axis=1) & ~crowd].tolist():
            self.missed[category] = self.missed.get(category, 0) + 1
        # A prediction that is mostly unlabelled, or mostly in a crowd of its class, is not an error.
        own_crowd = crowd[:, None] & (truth_class[:, None] == found_class[None])
        excused = shared[0, 1:] + (shared[1:, 1:] * own_crowd).sum(axis=0)
        error = ~match.any(axis=0) & (excused <= 0.5 * found_area)
        for category in found_class[error].tolist():
            self.wrong[category] = self.wrong.get(category, 0) + 1

    def per_category(self) -> dict[int, tuple[float, float, float]]:
        """Compute PQ, SQ and RQ, in [0, 1], of every category with segments."""
        figures = {}
        for category in sorted({*self.ious, *self.missed, *self.wrong}):
            ious = self.ious.get(category, [])
            weight = len(ious) + 0.5 * (self.wrong.get(category, 0) + self.missed.get(category, 0))
            total = math.fsum(ious)  # exact, so the order of images does not matter
            figures[category] = (total / weight, total / len(ious) if ious else 0.0, len(ious) / weight)
        return figures


def panoptic_results(counts: PanopticCounts, is_thing: Mapping[int, bool]) -> dict[str, float]:
    """Compute the mean PQ, SQ and RQ, in percent, of all categories, things (``_th``) and stuff (``_st``).

    Args:
        counts: counts of all images.
        is_thing: whether each category is a thing.
    """
    figures = counts.per_category()
    results = {}
    for suffix, wanted in (("", (True, False)), ("_th", (True,)), ("_st", (False,))):
        chosen = [f for c, f in figures.items() if is_thing[c] in wanted]
        for k, name in enumerate(("PQ", "SQ", "RQ")):
            mean = math.fsum(f[k] for f in chosen) / len(chosen) if chosen else float("nan")
            results[name + suffix] = 100 * mean
    return results
