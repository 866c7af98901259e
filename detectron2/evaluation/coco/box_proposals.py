"""Recall of box proposals, shared by COCO and LVIS."""

# Legend: G ground truths, P proposals, T IoU thresholds, A area ranges, L limits on proposals per image.

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectron2.structures import Boxes, BoxMode, Instances, pairwise_iou

IOU_THRESHOLDS = np.arange(0.5, 0.95 + 1e-5, 0.05)
AREAS: dict[str, tuple[float, float]] = {
    "": (0, 1e10),
    "s": (0, 32**2),
    "m": (32**2, 96**2),
    "l": (96**2, 1e10),
}
LIMITS = (100, 1000)


@dataclass
class ProposalRecall:
    """Counts for computing average recall, which can be merged over processes.

    Attributes:
        hits: ``[A, L, T]`` number of ground truths that were found.
        positives: ``[A]`` total number of ground truths.
    """

    hits: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((len(AREAS), len(LIMITS), len(IOU_THRESHOLDS)), dtype=np.int64)
    )
    positives: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(AREAS), dtype=np.int64))

    def add_image(self, proposals: Instances, annotations: Sequence[Mapping[str, Any]]) -> None:
        """Count one image.

        Args:
            proposals: with ``proposal_boxes`` and ``objectness_logits``.
            annotations: COCO annotations of the image; crowds are ignored.
        """
        objects = [a for a in annotations if not a.get("iscrowd", 0)]
        if not objects:
            return
        truth = BoxMode.convert(
            torch.tensor([a["bbox"] for a in objects], dtype=torch.float32),
            BoxMode.XYWH_ABS,
            BoxMode.XYXY_ABS,
        )
        areas = np.array([a["area"] for a in objects], dtype=np.float64)
        order = torch.argsort(proposals.objectness_logits, descending=True, stable=True)
        # [P, G], best proposals first
        iou = pairwise_iou(Boxes(proposals.proposal_boxes.tensor[order].float()), Boxes(truth)).numpy()
        for a, (low, high) in enumerate(AREAS.values()):
            chosen = (areas >= low) & (areas <= high)
            self.positives[a] += int(chosen.sum())
            for k, limit in enumerate(LIMITS):
                overlaps = greedy_overlaps(iou[:limit, chosen])
                self.hits[a, k] += (overlaps[:, None] >= IOU_THRESHOLDS).sum(axis=0)

    def merge(self, others: Iterable[ProposalRecall]) -> ProposalRecall:
        """Return the sum of these and other counts."""
        parts = [self, *others]
        return ProposalRecall(sum(p.hits for p in parts), sum(p.positives for p in parts))  # type: ignore[arg-type]

    def metrics(self) -> dict[str, float]:
        """Compute the recall averaged over thresholds, in percent: ``AR@100``, ``ARs@100``, ..., ``ARl@1000``."""
        result = {}
        for k, limit in enumerate(LIMITS):
            for a, name in enumerate(AREAS):
                total = int(self.positives[a])
                result[f"AR{name}@{limit}"] = (
                    float(np.mean(self.hits[a, k] / total) * 100) if total else float("nan")
                )
        return result


def greedy_overlaps(iou: npt.NDArray) -> npt.NDArray:
    """Match proposals and ground truths greedily by IoU, the best pair first.

    Args:
        iou: ``[P, G]``.

    Returns:
        The IoU of each match, ``[G]``, in no particular order; 0 for an unmatched ground truth.
    """
    iou = iou.copy()
    found = np.zeros(iou.shape[1], dtype=np.float64)
    for k in range(min(iou.shape)):
        best = int(iou.argmax())
        row, column = divmod(best, iou.shape[1])
        found[k] = max(float(iou[row, column]), 0.0)
        iou[row, :] = -1
        iou[:, column] = -1
    return found
