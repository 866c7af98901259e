"""Common losses over a set of classified masks.

Reference: sections 3.3 and 4.1 of Mask2Former, https://arxiv.org/abs/2112.01527
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.utils.errors import BadValue

from .matching import Indices, matched_queries
from .set_losses import dice_loss, matched_masks_at_points, sigmoid_ce_loss

__all__ = ["MaskCriterion", "Targets", "matched_labels"]

Targets: TypeAlias = list[dict[str, Tensor]]
"""For each image ``labels`` [T], ``masks`` [T, H, W] and, if boxes are predicted, ``boxes`` [T, 4]."""


def matched_labels(logits: Tensor, targets: Targets, indices: Indices, background: int) -> Tensor:
    """Assign a class to every query.

    Args:
        logits: [N, Q, classes]; only the shape and the device are used.
        targets: ground truth.
        indices: matched queries and objects of each image.
        background: class of queries without an object.

    Returns:
        int64 [N, Q].
    """
    wanted = torch.full(logits.shape[:2], background, dtype=torch.int64, device=logits.device)
    labels = torch.cat([t["labels"][j.to(t["labels"].device)] for t, (_, j) in zip(targets, indices)])
    wanted[matched_queries(indices)] = labels.to(wanted)
    return wanted


class MaskCriterion(nn.Module):
    """Compare classes and masks of matched queries; subclasses define the matched predictions.

    Args:
        num_classes: number of classes, without "no object".
        matcher: called with outputs and targets, returns :data:`.Indices`.
        weight_dict: weight of each loss by name; applied by the model, not here.
        eos_coef: weight of "no object" in the cross-entropy of classes.
        losses: names for :meth:`get_loss`.
        num_points: points at which the masks of a pair are compared.
        oversample_ratio: candidates per point.
        importance_sample_ratio: fraction of the points chosen by uncertainty.
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

    def cross_entropy(
        self, outputs: dict[str, Any], targets: Targets, indices: Indices, num_masks: Tensor | float
    ) -> dict[str, Tensor]:
        """Compute the cross-entropy of all queries; unmatched queries have the last class, "no object".

        Returns:
            ``loss_ce``, the weighted mean.
        """
        logits = outputs["pred_logits"].float()  # [N, Q, classes + 1]
        wanted = matched_labels(logits, targets, indices, self.num_classes)
        return {"loss_ce": F.cross_entropy(logits.transpose(1, 2), wanted, self.empty_weight)}

    def loss_masks(
        self, outputs: dict[str, Any], targets: Targets, indices: Indices, num_masks: Tensor | float
    ) -> dict[str, Tensor]:
        """Compute the binary cross-entropy and the dice loss of the pairs, at points.

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

    def _table(self) -> dict[str, Callable[..., dict[str, Tensor]]]:
        """Return the methods that compute losses, by name."""
        return {"labels": self.cross_entropy, "masks": self.loss_masks}

    def get_loss(
        self,
        loss: str,
        outputs: dict[str, Any],
        targets: Targets,
        indices: Indices,
        num_masks: Tensor | float,
    ) -> dict[str, Tensor]:
        """Compute the losses of one name in ``losses``, such as "labels" or "masks"."""
        table = self._table()
        if loss not in table:
            raise BadValue(f"loss must be one of {', '.join(table)}, got {loss!r}")
        return table[loss](outputs, targets, indices, num_masks)

    def pair_losses(
        self,
        losses: Sequence[str],
        outputs: dict[str, Any],
        targets: Targets,
        indices: Indices,
        number: Tensor | float,
        suffix: str = "",
    ) -> dict[str, Tensor]:
        """Compute several losses of one prediction.

        Args:
            losses: names for :meth:`get_loss`.
            outputs: the prediction.
            targets: ground truth.
            indices: matched queries and objects of each image.
            number: number of objects, by which sums are divided.
            suffix: suffix of the name of each loss.
        """
        found = {}
        for loss in losses:
            some = self.get_loss(loss, outputs, targets, indices, number)
            found.update({name + suffix: value for name, value in some.items()})
        return found

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_classes}, losses={self.losses}, weight_dict={self.weight_dict}, "
            f"eos_coef={self.eos_coef}, num_points={self.num_points}"
        )
