"""The losses of MaskDINO: classes, boxes and masks of all predictions, the encoder's proposals and denoising included.

Reference: MaskDINO, https://arxiv.org/abs/2206.02777
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.layers import losses as elementwise
from detectron2.modeling.transformer import (
    Indices,
    MaskCriterion,
    Targets,
    box_cxcywh_to_xyxy,
    calculate_uncertainty,
    dice_loss,
    matched_labels,
    matched_queries,
    mean_count,
    sigmoid_ce_loss,
)

from .things import are_things

__all__ = ["SetCriterion", "calculate_uncertainty", "dice_loss", "sigmoid_ce_loss", "sigmoid_focal_loss"]

# Names of the losses that each entry of ``losses`` computes.
_NAMES = {
    "labels": ("loss_ce",),
    "masks": ("loss_mask", "loss_dice"),
    "boxes": ("loss_bbox", "loss_giou"),
}


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, num_boxes: Tensor | float, alpha: float = 0.25, gamma: float = 2
) -> Tensor:
    """Focal loss: mean over the second axis, sum over the others, divided by a number of boxes.

    Args:
        inputs: [N, Q, ...] logits.
        targets: the same shape, in [0, 1].
        num_boxes: the divisor.
        alpha: weight of positives; negative: no weighting.
        gamma: strength of the fading.

    Reference: Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002
    """
    return elementwise.sigmoid_focal_loss(inputs, targets, alpha, gamma).mean(1).sum() / num_boxes


class SetCriterion(MaskCriterion):
    """Match queries with objects, then compare classes, boxes and masks of the pairs.

    Args:
        num_classes: classes, without "no object".
        matcher: see :class:`.HungarianMatcher`.
        weight_dict: weight of each loss by name; applied by the model, not here.
        eos_coef: weight of "no object" in the cross-entropy of classes.
        losses: of "labels", "masks" and "boxes".
        num_points: points at which the masks of a pair are compared.
        oversample_ratio: how many times as many candidates are drawn for them.
        importance_sample_ratio: share of them that is chosen for its uncertainty.
        dn: "no" for training without denoising queries.
        dn_losses: losses of denoising queries, of the same names.
        panoptic_on: learn boxes of things only.
        semantic_ce_loss: cross-entropy of classes with "no object", not the focal loss.

    Attributes:
        thing_classes: the classes that are things; None for those of COCO, below 80.
    """

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
        dn: str = "no",
        dn_losses: Sequence[str] = [],
        panoptic_on: bool = False,
        semantic_ce_loss: bool = False,
    ) -> None:
        super().__init__(
            num_classes,
            matcher,
            weight_dict,
            eos_coef,
            losses,
            num_points,
            oversample_ratio,
            importance_sample_ratio,
        )
        self.dn = dn
        self.dn_losses = list(dn_losses)
        self.panoptic_on = panoptic_on
        self.semantic_ce_loss = semantic_ce_loss
        self.thing_classes: Sequence[int] | None = None

    def set_things(self, classes: Sequence[int]) -> None:
        """Say which classes are things, also to the matcher."""
        self.thing_classes = classes
        self.matcher.thing_classes = classes  # type: ignore[assignment]

    def loss_labels(
        self,
        outputs: dict[str, Any],
        targets: Targets,
        indices: Indices,
        num_boxes: Tensor | float,
        log: bool = True,
    ) -> dict[str, Tensor]:
        """Focal loss of all queries and classes; those without an object belong to no class.

        Returns:
            ``loss_ce``, the sum divided by ``num_boxes``.
        """
        logits = outputs["pred_logits"]
        classes = logits.shape[2]
        wanted = matched_labels(logits, targets, indices, classes)
        hot = F.one_hot(wanted, classes + 1)[..., :-1].to(logits.dtype)
        return {"loss_ce": sigmoid_focal_loss(logits, hot, num_boxes) * logits.shape[1]}

    def loss_labels_ce(
        self, outputs: dict[str, Any], targets: Targets, indices: Indices, num_masks: Tensor | float
    ) -> dict[str, Tensor]:
        """Compute ``loss_ce`` by softmax; see :meth:`.MaskCriterion.cross_entropy`."""
        return self.cross_entropy(outputs, targets, indices, num_masks)

    def loss_boxes(
        self, outputs: dict[str, Any], targets: Targets, indices: Indices, num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """L1 distance and generalised IoU of the pairs.

        Returns:
            ``loss_bbox`` and ``loss_giou``, sums over the pairs divided by ``num_boxes``.
        """
        every = [torch.ones_like(t["labels"], dtype=torch.bool) for t in targets]
        return self._box_losses(outputs, targets, indices, num_boxes, every)

    def loss_boxes_panoptic(
        self, outputs: dict[str, Any], targets: Targets, indices: Indices, num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Compute the losses of :meth:`loss_boxes`, with pairs of things only."""
        things = [are_things(t["labels"], self.thing_classes) for t in targets]
        return self._box_losses(outputs, targets, indices, num_boxes, things)

    def _box_losses(
        self,
        outputs: dict[str, Any],
        targets: Targets,
        indices: Indices,
        num_boxes: Tensor | float,
        counted: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        predicted = outputs["pred_boxes"][matched_queries(indices)].float()
        places = [j.to(t["boxes"].device) for t, (_, j) in zip(targets, indices)]
        wanted = torch.cat([t["boxes"][j] for t, j in zip(targets, places)]).to(predicted)
        counts = torch.cat([c[j] for c, j in zip(counted, places)]).to(predicted)
        distance = (predicted - wanted).abs().sum(1)
        corners = box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(wanted)
        apart = elementwise.giou_loss(*corners, eps=1e-6)
        return {
            "loss_bbox": (distance * counts).sum() / num_boxes,
            "loss_giou": (apart * counts).sum() / num_boxes,
        }

    def _table(self) -> dict[str, Callable[..., dict[str, Tensor]]]:
        return {
            "labels": self.loss_labels_ce if self.semantic_ce_loss else self.loss_labels,
            "masks": self.loss_masks,
            "boxes": self.loss_boxes_panoptic if self.panoptic_on else self.loss_boxes,
        }

    def prep_for_dn(self, mask_dict: dict[str, Any]) -> tuple[dict[str, Any], int, int]:
        """Return the predictions of denoising queries, the size of a group, and the number of groups."""
        groups = int(mask_dict["scalar"])
        return mask_dict["output_known_lbs_bboxes"], int(mask_dict["pad_size"]) // groups, groups

    def forward(
        self, outputs: dict[str, Any], targets: Targets, mask_dict: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Compute all losses.

        Args:
            outputs: ``pred_logits`` [N, Q, classes], ``pred_boxes`` [N, Q, 4] (centre, size in [0, 1]) and
                ``pred_masks`` [N, Q, h, w]; optionally ``aux_outputs``, a list of such dicts, and ``interm_outputs``,
                another one. Each is matched for itself.
            targets: for each image ``labels`` [T], ``boxes`` [T, 4] and ``masks`` [T, H, W].
            mask_dict: layout and predictions of denoising queries, see :meth:`.MaskDINODecoder.forward`.

        Returns:
            Losses by name; those of ``aux_outputs`` end in ``_0``, ``_1``, …, those of ``interm_outputs`` in
            ``_interm``, those of denoising queries in ``_dn``, ``_dn_0``, …
        """
        number = mean_count(sum(len(t["labels"]) for t in targets), outputs["pred_logits"].device)
        predictions = {"": outputs}
        predictions |= {f"_{i}": p for i, p in enumerate(outputs.get("aux_outputs", []))}
        if "interm_outputs" in outputs:
            predictions["_interm"] = outputs["interm_outputs"]
        found: dict[str, Tensor] = {}
        for suffix, predicted in predictions.items():
            indices = self.matcher(predicted, targets)
            found |= self.pair_losses(self.losses, predicted, targets, indices, number, suffix)
        if self.dn != "no":
            found |= self._denoising_losses(outputs, targets, number, mask_dict)
        return found

    def _denoising_losses(
        self, outputs: dict[str, Any], targets: Targets, number: Tensor, mask_dict: dict[str, Any] | None
    ) -> dict[str, Tensor]:
        """Losses of denoising queries, whose places say what they are to find; zeros if there are none."""
        # Before the first layer, learnt queries of one stage and denoising ones are no common set yet.
        first = 0 if "interm_outputs" in outputs else 1
        layers = {f"_dn_{i}": i for i in range(first, len(outputs.get("aux_outputs", [])))}
        if mask_dict is None:
            zero = outputs["pred_logits"].new_zeros(())
            names = [name for loss in self.dn_losses for name in _NAMES[loss]]
            return {name + suffix: zero for suffix in ("_dn", *layers) for name in names}
        known, size, groups = self.prep_for_dn(mask_dict)
        indices = []
        for target in targets:
            objects = torch.arange(len(target["labels"]))
            queries = torch.arange(groups)[:, None] * size + objects
            indices.append((queries.flatten(), objects.repeat(groups)))
        found = self.pair_losses(self.dn_losses, known, targets, indices, number * groups, "_dn")
        for suffix, i in layers.items():
            earlier = known["aux_outputs"][i]
            found |= self.pair_losses(self.dn_losses, earlier, targets, indices, number * groups, suffix)
        return found
