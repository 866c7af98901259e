"""Costs of giving queries to objects, and Hungarian matching by their weighted sum.

Reference: End-to-End Object Detection with Transformers, https://arxiv.org/abs/2005.12872
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from detectron2.modeling.transformer import (
    Indices,
    assign,
    box_cxcywh_to_xyxy,
    class_cost,
    focal_cost,
    giou_cost,
    l1_cost,
)
from detectron2.utils.errors import BadValue

__all__ = ["CrossEntropyCost", "FocalLossCost", "GIoUCost", "HungarianMatcher", "L1Cost"]


class FocalLossCost(nn.Module):
    """Cost of a class by sigmoid; see :func:`~detectron2.modeling.transformer.focal_cost`.

    Args:
        alpha: weight of positives.
        gamma: strength of the fading.
        weight: factor of the cost.
        eps: added to probabilities before their logarithm.
    """

    def __init__(
        self, alpha: float = 0.25, gamma: float = 2.0, weight: float = 1.0, eps: float = 1e-8
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.weight = weight
        self.eps = eps

    def forward(self, pred_logits: Tensor, gt_labels: Tensor) -> Tensor:
        """Compare logits [Q, classes] with labels [T]: [Q, T]."""
        return self.weight * focal_cost(pred_logits, gt_labels, self.alpha, self.gamma, self.eps)


class _Cost(nn.Module):
    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight


class CrossEntropyCost(_Cost):
    """Cost of a class by softmax.

    Args:
        weight: factor of the cost.
    """

    def forward(self, pred_logits: Tensor, gt_labels: Tensor) -> Tensor:
        """Compare logits [Q, classes] with labels [T]: [Q, T]."""
        return self.weight * class_cost(pred_logits, gt_labels)


class L1Cost(_Cost):
    """Sum of the differences of the four numbers of boxes.

    Args:
        weight: factor of the cost.
    """

    def forward(self, pred_bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Compare boxes [Q, 4] with [T, 4]: [Q, T]."""
        return self.weight * l1_cost(pred_bboxes, gt_bboxes)


class GIoUCost(_Cost):
    """Generalised IoU, negated.

    Args:
        weight: factor of the cost.
    """

    def forward(self, pred_bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Compare boxes [Q, 4] with [T, 4], given by their corners: [Q, T]."""
        return self.weight * giou_cost(pred_bboxes, gt_bboxes)


class HungarianMatcher(nn.Module):
    """Gives every object of an image a query of its own.

    Args:
        cost_class: weight of the class.
        cost_bbox: weight of the L1 distance of boxes.
        cost_giou: weight of the generalised IoU.
        cost_class_type: "focal_loss_cost" for sigmoid, "ce_cost" for softmax.
        alpha: weight of positives in the focal cost.
        gamma: strength of the fading in the focal cost.
    """

    def __init__(
        self,
        cost_class: float = 1,
        cost_bbox: float = 1,
        cost_giou: float = 1,
        cost_class_type: str = "focal_loss_cost",
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        if cost_class == cost_bbox == cost_giou == 0:
            raise BadValue("at least one of cost_class, cost_bbox and cost_giou must differ from 0")
        if cost_class_type not in ("ce_cost", "focal_loss_cost"):
            raise BadValue(f"cost_class_type must be 'focal_loss_cost' or 'ce_cost', got {cost_class_type!r}")
        self.cost_class = cost_class
        self.cost_bbox = cost_bbox
        self.cost_giou = cost_giou
        self.cost_class_type = cost_class_type
        self.alpha = alpha
        self.gamma = gamma

    def _class_cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.cost_class_type == "ce_cost":
            return class_cost(logits, labels)
        return focal_cost(logits, labels, self.alpha, self.gamma)

    @torch.no_grad()
    def forward(self, outputs: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]) -> Indices:
        """Match.

        Args:
            outputs: ``pred_logits`` [N, Q, classes] and ``pred_boxes`` [N, Q, 4] (centre, size).
            targets: for each image ``labels`` [T] and ``boxes`` [T, 4].

        Returns:
            for each image the matched queries and their objects.
        """
        costs = []
        for logits, boxes, target in zip(outputs["pred_logits"], outputs["pred_boxes"], targets):
            corners, wanted = box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(target["boxes"])
            costs.append(
                self.cost_class * self._class_cost(logits, target["labels"])
                + self.cost_bbox * l1_cost(boxes, target["boxes"])
                + self.cost_giou * giou_cost(corners, wanted)
            )
        return assign(costs)
