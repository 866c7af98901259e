"""The loss over a set of classified masks.

Reference: sections 3.3 and 4.1 of Mask2Former, https://arxiv.org/abs/2112.01527
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.modeling.transformer import (
    Indices,
    calculate_uncertainty,
    dice_loss,
    matched_masks_at_points,
    matched_queries,
    mean_count,
    sigmoid_ce_loss,
)
from detectron2.utils.errors import BadValue

__all__ = ["SetCriterion", "calculate_uncertainty", "dice_loss", "sigmoid_ce_loss"]

Targets = list[dict[str, Tensor]]


class SetCriterion(nn.Module):
    """Match queries with objects, then compare classes and masks of the pairs.

    Args:
        num_classes: classes, without "no object".
        matcher: see :class:`.HungarianMatcher`.
        weight_dict: weight of each loss by name; applied by the model, not here.
        eos_coef: weight of "no object" in the loss of classes.
        losses: "labels" and "masks", or one of them.
        num_points: points at which the masks of a pair are compared.
        oversample_ratio: how many times as many candidates are drawn for them.
        importance_sample_ratio: share of them that is chosen for its uncertainty.
    """

    empty_weight: Tensor

    def __init__(
        self,
        num_classes: int,
        matcher: nn.Module,
        weight_dict: Mapping[str, float],
        eos_coef: float,
        losses: Sequence[str],
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.weight_dict = dict(weight_dict)
        self.eos_coef = eos_coef
        self.losses = list(losses)
        self.register_buffer("empty_weight", torch.tensor([1.0] * num_classes + [eos_coef]))
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio

    def loss_labels(
        self, outputs: dict[str, Any], targets: Targets, indices: Indices, num_masks: Tensor | float
    ) -> dict[str, Tensor]:
        """Cross-entropy of all queries; those without an object belong to the last class, "no object".

        Returns:
            ``loss_ce``, the weighted mean.
        """
        logits = outputs["pred_logits"].float()  # [N, Q, classes + 1]
        wanted = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device)
        labels = torch.cat([t["labels"][j.to(t["labels"].device)] for t, (_, j) in zip(targets, indices)])
        wanted[matched_queries(indices)] = labels.to(wanted)
        return {"loss_ce": F.cross_entropy(logits.transpose(1, 2), wanted, self.empty_weight)}

    def loss_masks(
        self, outputs: dict[str, Any], targets: Targets, indices: Indices, num_masks: Tensor | float
    ) -> dict[str, Tensor]:
        """Binary cross-entropy and dice loss of the pairs, at points.

        Returns:
            ``loss_mask`` and ``loss_dice``, sums over the pairs divided by ``num_masks``.
        """
        logits, labels = matched_masks_at_points(
            outputs["pred_masks"],
            [t["masks"] for t in targets],
            indices,
            self.num_points,
            self.oversample_ratio,
            self.importance_sample_ratio,
        )
        return {
            "loss_mask": sigmoid_ce_loss(logits, labels, num_masks),
            "loss_dice": dice_loss(logits, labels, num_masks),
        }

    def get_loss(
        self,
        loss: str,
        outputs: dict[str, Any],
        targets: Targets,
        indices: Indices,
        num_masks: Tensor | float,
    ) -> dict[str, Tensor]:
        """Compute the losses called "labels" or "masks"."""
        table: dict[str, Callable[..., dict[str, Tensor]]] = {
            "labels": self.loss_labels,
            "masks": self.loss_masks,
        }
        if loss not in table:
            raise BadValue(f"no loss named {loss!r}; there are {', '.join(table)}")
        return table[loss](outputs, targets, indices, num_masks)

    def forward(self, outputs: dict[str, Any], targets: Targets) -> dict[str, Tensor]:
        """Compute all losses of the last prediction and of those before it.

        Args:
            outputs: ``pred_logits`` [N, Q, classes + 1], ``pred_masks`` [N, Q, h, w] and optionally
                ``aux_outputs``, a list of such dicts. Each is matched for itself.
            targets: for each image ``labels`` [T] and ``masks`` [T, H, W].

        Returns:
            Losses by name; those of ``aux_outputs`` end in ``_0``, ``_1``, …
        """
        device = outputs["pred_logits"].device
        num_masks = mean_count(sum(len(t["labels"]) for t in targets), device)
        found = {}
        suffixes = ["", *(f"_{i}" for i in range(len(outputs.get("aux_outputs", []))))]
        for suffix, predicted in zip(suffixes, [outputs, *outputs.get("aux_outputs", [])]):
            indices = self.matcher(predicted, targets)
            for loss in self.losses:
                some = self.get_loss(loss, predicted, targets, indices, num_masks)
                found.update({name + suffix: value for name, value in some.items()})
        return found

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_classes}, losses={self.losses}, weight_dict={self.weight_dict}, "
            f"eos_coef={self.eos_coef}, num_points={self.num_points}"
        )
