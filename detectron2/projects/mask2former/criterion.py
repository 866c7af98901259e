"""The loss over a set of classified masks.

Reference: sections 3.3 and 4.1 of Mask2Former, https://arxiv.org/abs/2112.01527
"""

from typing import Any

from torch import Tensor

from detectron2.modeling.transformer import (
    Indices,
    MaskCriterion,
    Targets,
    calculate_uncertainty,
    dice_loss,
    mean_count,
    sigmoid_ce_loss,
)

__all__ = ["SetCriterion", "calculate_uncertainty", "dice_loss", "sigmoid_ce_loss"]


class SetCriterion(MaskCriterion):
    """Match queries to objects, then compare classes and masks of the pairs.

    Arguments are those of :class:`.MaskCriterion`; ``losses`` are "labels" and "masks", or one of them.
    """

    def loss_labels(
        self, outputs: dict[str, Any], targets: Targets, indices: Indices, num_masks: Tensor | float
    ) -> dict[str, Tensor]:
        """Compute ``loss_ce``; see :meth:`.MaskCriterion.cross_entropy`."""
        return self.cross_entropy(outputs, targets, indices, num_masks)

    def forward(self, outputs: dict[str, Any], targets: Targets) -> dict[str, Tensor]:
        """Compute all losses of the last prediction and the intermediate ones.

        Args:
            outputs: ``pred_logits`` [N, Q, classes + 1], ``pred_masks`` [N, Q, h, w] and optionally
                ``aux_outputs``, a list of such dicts. Each is matched separately.
            targets: for each image ``labels`` [T] and ``masks`` [T, H, W].

        Returns:
            Losses by name; those of ``aux_outputs`` end in ``_0``, ``_1``, …
        """
        num_masks = mean_count(sum(len(t["labels"]) for t in targets), outputs["pred_logits"].device)
        earlier = outputs.get("aux_outputs", [])
        found: dict[str, Tensor] = {}
        for suffix, predicted in zip(["", *(f"_{i}" for i in range(len(earlier)))], [outputs, *earlier]):
            indices = self.matcher(predicted, targets)
            found |= self.pair_losses(self.losses, predicted, targets, indices, num_masks, suffix)
        return found
