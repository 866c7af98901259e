"""Match queries to the objects of an image, by class and by masks at sampled points.

Reference: section 3.3 of Mask2Former, https://arxiv.org/abs/2112.01527
"""

from typing import Any

import torch
from torch import Tensor, nn

from detectron2.modeling.transformer import (
    Indices,
    assign,
    batch_dice_loss,
    batch_sigmoid_ce_loss,
    class_cost,
    masks_at_points,
)
from detectron2.utils.errors import BadValue

__all__ = ["HungarianMatcher"]


class HungarianMatcher(nn.Module):
    """Match every object to a different query, at the lowest total cost.

    Args:
        cost_class: weight of the class probability.
        cost_mask: weight of the binary cross-entropy of masks.
        cost_dice: weight of the dice loss of masks.
        num_points: random points at which masks are compared, the same for all masks of an image.
    """

    def __init__(
        self, cost_class: float = 1, cost_mask: float = 1, cost_dice: float = 1, num_points: int = 0
    ) -> None:
        super().__init__()
        if not (cost_class or cost_mask or cost_dice):
            raise BadValue("at least one of cost_class, cost_mask and cost_dice must not be 0")
        self.cost_class = cost_class
        self.cost_mask = cost_mask
        self.cost_dice = cost_dice
        self.num_points = num_points

    @torch.no_grad()
    def memory_efficient_forward(self, outputs: dict[str, Any], targets: list[dict[str, Tensor]]) -> Indices:
        """Match image by image, comparing masks at points only; see :meth:`forward`."""
        costs = []
        for logits, masks, target in zip(outputs["pred_logits"], outputs["pred_masks"], targets):
            predicted, wanted = masks_at_points(masks, target["masks"], self.num_points)
            costs.append(
                self.cost_mask * batch_sigmoid_ce_loss(predicted, wanted)
                + self.cost_class * class_cost(logits, target["labels"])
                + self.cost_dice * batch_dice_loss(predicted, wanted)
            )
        return assign(costs)

    def forward(self, outputs: dict[str, Any], targets: list[dict[str, Tensor]]) -> Indices:
        """Match queries to objects.

        Args:
            outputs: ``pred_logits`` [N, Q, classes + 1] and ``pred_masks`` [N, Q, h, w].
            targets: for each image ``labels`` [T] and ``masks`` [T, H, W].

        Returns:
            For each image the queries and the objects of its ``min(Q, T)`` pairs, on the CPU.
        """
        return self.memory_efficient_forward(outputs, targets)

    def extra_repr(self) -> str:
        return (
            f"cost_class={self.cost_class}, cost_mask={self.cost_mask}, cost_dice={self.cost_dice}, "
            f"num_points={self.num_points}"
        )
