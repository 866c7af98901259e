"""Soft-NMS: lower the scores of overlapping boxes instead of dropping them.

Reference: Bodla et al., Soft-NMS, https://arxiv.org/abs/1704.04503
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from detectron2.utils.errors import BadValue

__all__ = ["SoftNMS", "soft_nms"]

_METHODS = ("linear", "gaussian", "naive")


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Select boxes in the order of their scores; each lowers the scores of those that it overlaps.

    The score of a box whose IoU with a selected one is o is multiplied by ``1 - o`` ("linear") or 0 ("naive") if o
    is at least ``iou_threshold``, or always by ``exp(-o² / sigma)`` ("gaussian"; equations 2 and 3 of the paper).

    Args:
        boxes: [N, 4] XYXY.
        scores: [N].
        iou_threshold: minimum IoU at which "linear" and "naive" act.
        sigma: width of the Gaussian.
        min_score: boxes whose score falls below this are dropped.
        method: "linear", "gaussian" or "naive", which is ordinary NMS.
        offset: 1 if a box from x = 3 to x = 3 is one pixel wide, else 0.

    Returns:
        Boxes with their new scores [K, 5], highest score first, and their indices, int64 [K].

    Raises:
        ValueError: for another method or offset.
    """
    if method not in _METHODS or offset not in (0, 1):
        raise BadValue(
            f"soft_nms: method must be one of {_METHODS} and offset 0 or 1, got {method!r}, {offset!r}"
        )
    low, high = boxes[:, :2], boxes[:, 2:]
    areas = (high - low + offset).prod(dim=1)
    left = scores.clone()  # scores of the remaining boxes; -1 once a box is selected or dropped
    kept: list[Tensor] = []
    new_scores: list[Tensor] = []
    for _ in range(len(boxes)):
        score, best = left.max(dim=0)
        if score < 0 or (score < min_score and kept):
            break
        kept.append(best)
        new_scores.append(score)
        sides = torch.minimum(high, high[best]) - torch.maximum(low, low[best]) + offset
        shared = sides.clamp(min=0).prod(dim=1)
        iou = shared / (areas + areas[best] - shared)
        if method == "gaussian":
            left = left * torch.exp(-(iou**2) / sigma)
        else:
            left = torch.where(iou >= iou_threshold, left * (1 - iou if method == "linear" else 0), left)
        left = torch.where(left < min_score, -1.0, left)
        left[best] = -1.0
    if not kept:
        return torch.cat([boxes, scores[:, None]], dim=1)[:0], torch.zeros(
            0, dtype=torch.int64, device=boxes.device
        )
    keep = torch.stack(kept)
    return torch.cat([boxes[keep], torch.stack(new_scores)[:, None]], dim=1), keep


@dataclass(frozen=True)
class SoftNMS:
    """Options of :func:`soft_nms` for the detections of an image.

    Attributes:
        method: "linear", "gaussian" or "naive".
        iou_threshold: minimum IoU at which "linear" and "naive" act.
        sigma: width of the Gaussian.
        min_score: boxes whose score falls below this are dropped.
        class_wise: whether boxes only affect others of the same class.
    """

    method: str = "linear"
    iou_threshold: float = 0.3
    sigma: float = 0.5
    min_score: float = 1e-3
    class_wise: bool = True

    def __call__(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Run over boxes [N, 4] with scores [N] and classes [N].

        Returns:
            New scores [K], highest first, and indices of the boxes, int64 [K].
        """
        if self.class_wise and len(boxes):  # shift each class to a separate region
            boxes = boxes + (classes.to(boxes) * (boxes.max() - boxes.min() + 1))[:, None]
        found, keep = soft_nms(boxes, scores, self.iou_threshold, self.sigma, self.min_score, self.method)
        return found[:, 4], keep
