"""Assignment of each prediction (anchor, proposal) to at most one ground-truth element."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detectron2.layers import nonzero_tuple

__all__ = ["Matcher", "nonzero_tuple"]


class Matcher:
    """Give every prediction the ground truth that it fits best, and a label from the quality of that fit.

    The axis of qualities is cut at ``thresholds`` into ``len(thresholds) + 1`` half-open intervals
    ``[lower, upper)``; a prediction whose best quality falls into interval i gets ``labels[i]``.

    Args:
        thresholds: positive qualities in ascending order, usually IoU values in (0, 1].
        labels: one of -1 (ignore), 0 (negative) and 1 (positive) for each interval, from the lowest up.
        allow_low_quality_matches: also make positive whatever fits some ground truth best of all predictions,
            however poorly (ties included). Faster R-CNN, section 3.1.2, case (i).

    Raises:
        ValueError: when the thresholds are not positive and ascending, or the labels do not fit them.
    """

    def __init__(
        self, thresholds: Sequence[float], labels: Sequence[int], allow_low_quality_matches: bool = False
    ) -> None:
        cuts = [float(t) for t in thresholds]
        if any(not t > 0 for t in cuts[:1]) or any(b < a for a, b in itertools.pairwise(cuts)):
            raise ValueError(f"thresholds must be positive and ascending, got {list(thresholds)}")
        if len(labels) != len(cuts) + 1:
            raise ValueError(
                f"{len(cuts)} thresholds make {len(cuts) + 1} intervals, got {len(labels)} labels {list(labels)}"
            )
        if not set(labels) <= {-1, 0, 1}:
            raise ValueError(f"labels must be -1 (ignore), 0 (negative) or 1 (positive), got {list(labels)}")
        self.thresholds = [-math.inf, *cuts, math.inf]
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Match the columns (N predictions) of a matrix [M, N] to its rows (M ground truths).

        Args:
            match_quality_matrix: non-negative qualities, e.g. pairwise IoU. M = 0 makes everything get the
                label of the lowest interval.

        Returns:
            ``matches``, int64 [N], the row that fits each column best (0 where M = 0), and ``labels``, int8 [N].

        Raises:
            ValueError: when the matrix does not have two dimensions.
        """
        if match_quality_matrix.dim() != 2:
            raise ValueError(
                f"match_quality_matrix must be [M ground truths, N predictions], "
                f"got {list(match_quality_matrix.shape)}"
            )
        num_gt, num_pred = match_quality_matrix.shape
        labels = match_quality_matrix.new_full((num_pred,), self.labels[0], dtype=torch.int8)
        if num_gt == 0:
            return labels.new_zeros((num_pred,), dtype=torch.int64), labels
        best, matches = match_quality_matrix.max(dim=0)  # [N]
        for threshold, label in zip(self.thresholds[1:-1], self.labels[1:]):
            labels.masked_fill_(best >= threshold, label)
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(labels, match_quality_matrix)
        return matches, labels

    def set_low_quality_matches_(self, match_labels: Tensor, match_quality_matrix: Tensor) -> None:
        """Set to 1, in place, the label of every prediction that is the best one of some ground truth.

        Args:
            match_labels: int8 [N].
            match_quality_matrix: [M, N] with N >= 1 (with N = 0 there is nothing to do).
        """
        if match_quality_matrix.numel() == 0:
            return
        peak = match_quality_matrix.amax(dim=1, keepdim=True)  # [M, 1]
        match_labels.masked_fill_((match_quality_matrix == peak).any(dim=0), 1)
