"""Losses of matched queries with loss modules of one's own."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from detectron2.modeling.transformer import Indices, box_cxcywh_to_xyxy, matched_queries, mean_count

from .losses import FocalLoss, GIoULoss, L1Loss
from .matcher import HungarianMatcher

__all__ = ["BaseCriterion"]


class BaseCriterion(nn.Module):
    """Losses of classes and boxes, computed by modules.

    Args:
        num_classes: number of classes.
        matcher: from predictions and targets to indices of both.
        loss_class: of logits [N * Q, classes] and labels [N * Q], ``num_classes`` for no object.
        loss_bbox: of boxes [M, 4] (centre, size).
        loss_giou: of boxes [M, 4], given by their corners.
    """

    def __init__(
        self,
        num_classes: int,
        matcher: nn.Module = HungarianMatcher(2.0, 5.0, 2.0),  # noqa: B008
        loss_class: nn.Module = FocalLoss(loss_weight=2.0),  # noqa: B008
        loss_bbox: nn.Module = L1Loss(loss_weight=5.0),  # noqa: B008
        loss_giou: nn.Module = GIoULoss(loss_weight=2.0),  # noqa: B008
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.loss_class = loss_class
        self.loss_bbox = loss_bbox
        self.loss_giou = loss_giou

    def calculate_class_loss(
        self,
        pred_logits: Tensor,
        targets: Sequence[Mapping[str, Tensor]],
        indices: Indices,
        num_boxes: float,
    ) -> Tensor:
        """Loss of the classes of all queries [N, Q, classes]."""
        labels = torch.full(pred_logits.shape[:2], self.num_classes, device=pred_logits.device)
        labels[matched_queries(indices)] = _matched(targets, indices, "labels")
        loss: Tensor = self.loss_class(pred_logits.flatten(0, 1), labels.flatten(), avg_factor=num_boxes)
        return loss

    def calculate_bbox_loss(
        self,
        pred_boxes: Tensor,
        targets: Sequence[Mapping[str, Tensor]],
        indices: Indices,
        num_boxes: float,
    ) -> Tensor:
        """Distance of matched boxes [N, Q, 4] from their targets."""
        boxes = pred_boxes[matched_queries(indices)]
        loss: Tensor = self.loss_bbox(boxes, _matched(targets, indices, "boxes"), avg_factor=num_boxes)
        return loss

    def calculate_giou_loss(
        self,
        pred_boxes: Tensor,
        targets: Sequence[Mapping[str, Tensor]],
        indices: Indices,
        num_boxes: float,
    ) -> Tensor:
        """Overlap of matched boxes [N, Q, 4] with their targets."""
        boxes = box_cxcywh_to_xyxy(pred_boxes[matched_queries(indices)])
        wanted = box_cxcywh_to_xyxy(_matched(targets, indices, "boxes"))
        loss: Tensor = self.loss_giou(boxes, wanted, avg_factor=num_boxes)
        return loss

    def forward(
        self, outputs: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Compute ``loss_class``, ``loss_bbox`` and ``loss_giou``.

        Args:
            outputs: ``pred_logits`` [N, Q, classes] and ``pred_boxes`` [N, Q, 4].
            targets: for each image ``labels`` [T] and ``boxes`` [T, 4].
        """
        logits, boxes = outputs["pred_logits"], outputs["pred_boxes"]
        count: Tensor = mean_count(sum(len(t["labels"]) for t in targets), logits.device)
        found = self.matcher(outputs, targets)
        return {
            "loss_class": self.calculate_class_loss(logits, targets, found, count),  # type: ignore[arg-type]
            "loss_bbox": self.calculate_bbox_loss(boxes, targets, found, count),  # type: ignore[arg-type]
            "loss_giou": self.calculate_giou_loss(boxes, targets, found, count),  # type: ignore[arg-type]
        }


def _matched(targets: Sequence[Mapping[str, Tensor]], indices: Indices, key: str) -> Tensor:
    return torch.cat([t[key][which.to(t[key].device)] for t, (_, which) in zip(targets, indices)])
