"""Matching of queries with the objects of an image, by class, box and mask.

Reference: MaskDINO, https://arxiv.org/abs/2206.02777
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.modeling.transformer import (
    Indices,
    assign,
    batch_dice_loss,
    batch_sigmoid_ce_loss,
    box_cxcywh_to_xyxy,
    focal_cost,
    giou_cost,
    l1_cost,
    masks_at_points,
)
from detectron2.utils.errors import BadValue

from .things import are_things

__all__ = ["HungarianMatcher"]


class HungarianMatcher(nn.Module):
    """Give every object the query that suits it, no query to two of them.

    Args:
        cost_class: weight of the focal cost of classes.
        cost_mask: weight of the binary cross-entropy of masks.
        cost_dice: weight of their dice loss.
        num_points: random points at which masks are compared, the same for all masks of an image.
        cost_box: weight of the L1 distance of boxes.
        cost_giou: weight of their generalised IoU.
        panoptic_on: compare boxes of things only; stuff gets the mean cost of things.

    Attributes:
        thing_classes: the classes that are things; None for those of COCO, below 80.
    """

    def __init__(
        self,
        cost_class: float = 1,
        cost_mask: float = 1,
        cost_dice: float = 1,
        num_points: int = 0,
        cost_box: float = 0,
        cost_giou: float = 0,
        panoptic_on: bool = False,
    ) -> None:
        super().__init__()
        if not (cost_class or cost_mask or cost_dice):
            raise BadValue("at least one of cost_class, cost_mask and cost_dice must not be 0")
        self.cost_class = cost_class
        self.cost_mask = cost_mask
        self.cost_dice = cost_dice
        self.num_points = num_points
        self.cost_box = cost_box
        self.cost_giou = cost_giou
        self.panoptic_on = panoptic_on
        self.thing_classes: Sequence[int] | None = None

    def _box_cost(self, boxes: Tensor, target: dict[str, Tensor]) -> Tensor:
        corners, wanted = box_cxcywh_to_xyxy(boxes.float()), box_cxcywh_to_xyxy(target["boxes"])
        cost = self.cost_box * l1_cost(boxes, target["boxes"]) + self.cost_giou * giou_cost(corners, wanted)
        if self.panoptic_on:
            things = are_things(target["labels"], self.thing_classes)
            mean = (cost * things).sum() / (things.sum() * len(cost)).clamp(min=1)
            cost = torch.where(things, cost, mean)
        return cost

    @torch.no_grad()
    def memory_efficient_forward(
        self,
        outputs: dict[str, Any],
        targets: list[dict[str, Tensor]],
        cost: Sequence[str] = ["cls", "box", "mask"],
    ) -> Indices:
        """Match image by image, with masks at points only; see :meth:`forward`."""
        costs = []
        for i, target in enumerate(targets):
            logits = outputs["pred_logits"][i]
            total = logits.new_zeros(len(logits), len(target["labels"]), dtype=torch.float32)
            if "cls" in cost:
                total = total + self.cost_class * focal_cost(logits, target["labels"])
            if "box" in cost:
                total = total + self._box_cost(outputs["pred_boxes"][i], target)
            if "mask" in cost:
                masks, wanted = masks_at_points(outputs["pred_masks"][i], target["masks"], self.num_points)
                total = total + self.cost_mask * batch_sigmoid_ce_loss(masks, wanted)
                total = total + self.cost_dice * batch_dice_loss(masks, wanted)
            costs.append(total)
        return assign(costs)

    def forward(
        self,
        outputs: dict[str, Any],
        targets: list[dict[str, Tensor]],
        cost: Sequence[str] = ["cls", "box", "mask"],
    ) -> Indices:
        """Match.

        Args:
            outputs: ``pred_logits`` [N, Q, classes], ``pred_boxes`` [N, Q, 4] (centre, size in [0, 1]) and
                ``pred_masks`` [N, Q, h, w].
            targets: for each image ``labels`` [T], ``boxes`` [T, 4] and ``masks`` [T, H, W].
            cost: what counts: "cls", "box", "mask".

        Returns:
            For each image the queries and the objects of its ``min(Q, T)`` pairs, on the CPU.
        """
        return self.memory_efficient_forward(outputs, targets, cost)

    def extra_repr(self) -> str:
        return (
            f"cost_class={self.cost_class}, cost_mask={self.cost_mask}, cost_dice={self.cost_dice}, "
            f"num_points={self.num_points}, cost_box={self.cost_box}, cost_giou={self.cost_giou}, "
            f"panoptic_on={self.panoptic_on}"
        )
