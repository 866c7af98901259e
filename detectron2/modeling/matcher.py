"""Assignment of each prediction (anchor, proposal) to at most one ground-truth element."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from detectron2.layers import nonzero_tuple
from detectron2.structures import Boxes
from detectron2.utils.errors import BadValue

__all__ = ["Matcher", "match_boxes", "nonzero_tuple"]

# Largest number of qualities computed at once; temporary arrays need about four times as much. All anchors of a COCO
# image with a few hundred objects would take gigabytes.
_CELLS_AT_ONCE = {"cpu": 1 << 22, "": 1 << 24}


class Matcher:
    """Assign to every prediction its best-matching ground truth, and a label by the quality of the match.

    ``thresholds`` divide the range of qualities into ``len(thresholds) + 1`` half-open intervals
    ``[lower, upper)``; a prediction whose best quality falls into interval i gets ``labels[i]``.

    Args:
        thresholds: positive qualities in ascending order, usually IoU values in (0, 1].
        labels: one of -1 (ignore), 0 (negative) and 1 (positive) for each interval, in ascending order.
        allow_low_quality_matches: also label positive each prediction that is the best match of some ground truth
            (ties included), however low its quality. Faster R-CNN, section 3.1.2, case (i).

    Raises:
        ValueError: if the thresholds are not positive and ascending, or the labels are not -1, 0 or 1 for each
            interval.
    """

    def __init__(
        self, thresholds: Sequence[float], labels: Sequence[int], allow_low_quality_matches: bool = False
    ) -> None:
        cuts = [float(t) for t in thresholds]
        if any(not t > 0 for t in cuts[:1]) or any(b < a for a, b in itertools.pairwise(cuts)):
            raise BadValue(f"thresholds must be positive and ascending, got {list(thresholds)}")
        if len(labels) != len(cuts) + 1:
            raise BadValue(
                f"{len(cuts)} thresholds make {len(cuts) + 1} intervals, got {len(labels)} labels {list(labels)}"
            )
        if not set(labels) <= {-1, 0, 1}:
            raise BadValue(f"labels must be -1 (ignore), 0 (negative) or 1 (positive), got {list(labels)}")
        self.thresholds = [-math.inf, *cuts, math.inf]
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Match the columns (N predictions) of a matrix [M, N] to its rows (M ground truths).

        Args:
            match_quality_matrix: non-negative qualities, e.g. pairwise IoU. If M = 0, all predictions get the label
                of the lowest interval.

        Returns:
            ``matches``, int64 [N], the best row for each column (0 if M = 0), and ``labels``, int8 [N].

        Raises:
            ValueError: if the matrix does not have two dimensions.
        """
        if match_quality_matrix.dim() != 2:
            raise BadValue(
                f"match_quality_matrix must be [M ground truths, N predictions], "
                f"got {list(match_quality_matrix.shape)}"
            )
        if match_quality_matrix.shape[0] == 0:
            matches = match_quality_matrix.new_zeros((match_quality_matrix.shape[1],), dtype=torch.int64)
            return matches, torch.full_like(matches, self.labels[0], dtype=torch.int8)
        best, matches = match_quality_matrix.max(dim=0)  # [N]
        labels = self.label(best)
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(labels, match_quality_matrix)
        return matches, labels

    def label(self, best: Tensor) -> Tensor:
        """Return the labels, int8 [N], for the best quality [N] of each prediction."""
        labels = torch.full_like(best, self.labels[0], dtype=torch.int8)
        for threshold, label in zip(self.thresholds[1:-1], self.labels[1:]):
            labels.masked_fill_(best >= threshold, label)
        return labels

    def set_low_quality_matches_(self, match_labels: Tensor, match_quality_matrix: Tensor) -> None:
        """Set to 1, in place, the label of every prediction that is the best match of some ground truth.

        Args:
            match_labels: int8 [N].
            match_quality_matrix: [M, N].
        """
        if match_quality_matrix.numel():
            match_labels.masked_fill_(_best_of_some_row(match_quality_matrix), 1)


def _best_of_some_row(quality: Tensor) -> Tensor:
    """Find the columns, bool [N], that hold the largest value of some row of [M, N], ties included.

    Negative rows are padding.
    """
    best = quality.amax(dim=1, keepdim=True)
    return ((quality == best) & (best >= 0)).any(dim=0)


def match_boxes(
    matcher: Callable[[Tensor], tuple[Tensor, Tensor]],
    quality: Callable[[Boxes, Boxes], Tensor],
    truths: Boxes,
    predictions: Boxes,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute ``matcher(quality(truths, predictions))`` in bounded memory.

    A :class:`Matcher` sees a few rows at a time. Any other matcher, also a subclass, gets the whole matrix, because its
    result may depend on all rows.

    Args:
        matcher: maps qualities [M, N] to matches and labels [N].
        quality: computes qualities [m, N] of m ground truths and all predictions; rows must not depend on each other.
        truths: M boxes.
        predictions: N boxes.
        valid: bool [M], which ground truths are real; qualities of the others, which are padding, become -1.
    """
    device = predictions.device
    rows = max(1, _CELLS_AT_ONCE.get(device.type, _CELLS_AT_ONCE[""]) // max(len(predictions), 1))
    if len(truths) <= rows or not isinstance(matcher, Matcher) or type(matcher) is not Matcher:
        return matcher(_without_padding(quality(truths, predictions), valid))
    best = torch.full((len(predictions),), -math.inf, device=device)
    matches = torch.zeros(len(predictions), dtype=torch.int64, device=device)
    low = torch.zeros(len(predictions), dtype=torch.bool, device=device)
    for start in range(0, len(truths), rows):
        here = slice(start, start + rows)
        block = quality(truths[here], predictions).to(device)
        block = _without_padding(block, None if valid is None else valid[here])
        top, row = block.max(dim=0)
        better = top > best  # the first of equal rows wins, as in max() over the whole matrix
        best = torch.where(better, top, best)
        matches = torch.where(better, row + start, matches)
        if matcher.allow_low_quality_matches and block.numel():
            low |= _best_of_some_row(block)
    return matches, matcher.label(best).masked_fill_(low, 1)


def _without_padding(quality: Tensor, valid: Tensor | None) -> Tensor:
    return quality if valid is None else torch.where(valid[:, None], quality, -1.0)
