"""Losses over sets of matched queries: of all layers, of query selection, and of denoising queries.

References: https://arxiv.org/abs/2010.04159 and, for denoising, https://arxiv.org/abs/2203.03605
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.layers.losses import sigmoid_focal_loss
from detectron2.modeling.transformer import (
    Indices,
    box_cxcywh_to_xyxy,
    generalized_box_iou,
    matched_queries,
    mean_count,
)
from detectron2.utils.errors import BadValue

__all__ = ["DINOCriterion", "DeformableCriterion", "SetCriterion", "TwoStageCriterion"]

Targets = Sequence[Mapping[str, Tensor]]


class SetCriterion(nn.Module):
    """Losses of classes and boxes of matched queries.

    Losses are not weighted here: the model multiplies them by ``weight_dict``.

    Args:
        num_classes: number of classes.
        matcher: from predictions and targets to indices of both.
        weight_dict: weights by names of losses.
        losses: "class" and "boxes", or one of them.
        eos_coef: weight of the class "no object" in cross-entropy.
        loss_class_type: "focal_loss" for sigmoid, "ce_loss" for softmax with a last class "no object".
        alpha: weight of positives in the focal loss.
        gamma: strength of the fading in the focal loss.
    """

    empty_weight: Tensor

    def __init__(
        self,
        num_classes: int,
        matcher: nn.Module,
        weight_dict: Mapping[str, float],
        losses: Sequence[str] = ("class", "boxes"),
        eos_coef: float | None = 0.1,
        loss_class_type: str = "focal_loss",
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        if loss_class_type not in ("ce_loss", "focal_loss"):
            raise BadValue(f"loss_class_type must be 'focal_loss' or 'ce_loss', got {loss_class_type!r}")
        self.num_classes = num_classes
        self.matcher = matcher
        self.weight_dict = weight_dict
        self.losses = list(losses)
        self.eos_coef = eos_coef
        self.loss_class_type = loss_class_type
        self.alpha = alpha
        self.gamma = gamma
        if loss_class_type == "ce_loss":
            weights = torch.ones(num_classes + 1)
            weights[-1] = 0.1 if eos_coef is None else eos_coef
            self.register_buffer("empty_weight", weights)

    def loss_labels(
        self, outputs: Mapping[str, Tensor], targets: Targets, indices: Indices, num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Classification loss of all queries; those without an object belong to no class."""
        logits = outputs["pred_logits"]
        wanted = torch.full(logits.shape[:2], self.num_classes, device=logits.device)
        wanted[matched_queries(indices)] = _matched(targets, indices, "labels")
        if self.loss_class_type == "ce_loss":
            return {"loss_class": F.cross_entropy(logits.transpose(1, 2), wanted, self.empty_weight)}
        one_hot = F.one_hot(wanted, self.num_classes + 1)[..., :-1].to(logits)
        loss = sigmoid_focal_loss(logits, one_hot, self.alpha, self.gamma, "sum")
        return {"loss_class": loss / num_boxes}

    def loss_boxes(
        self, outputs: Mapping[str, Tensor], targets: Targets, indices: Indices, num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """L1 distance and generalised IoU of matched boxes."""
        boxes = outputs["pred_boxes"][matched_queries(indices)]
        wanted = _matched(targets, indices, "boxes")
        overlap = generalized_box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(wanted)).diagonal()
        return {
            "loss_bbox": F.l1_loss(boxes, wanted, reduction="sum") / num_boxes,
            "loss_giou": (1 - overlap).sum() / num_boxes,
        }

    def get_loss(
        self,
        loss: str,
        outputs: Mapping[str, Tensor],
        targets: Targets,
        indices: Indices,
        num_boxes: Tensor | float,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Compute the losses called "class" or "boxes" of matched queries.

        Args:
            loss: which.
            outputs: ``pred_logits`` [N, Q, classes] and ``pred_boxes`` [N, Q, 4].
            targets: for each image ``labels`` [T] and ``boxes`` [T, 4].
            indices: matched queries and targets.
            num_boxes: sums are divided by it.
            kwargs: handed on.
        """
        known = {"class": self.loss_labels, "boxes": self.loss_boxes}
        if loss not in known:
            raise BadValue(f"losses must be 'class' or 'boxes', got {loss!r}")
        return known[loss](outputs, targets, indices, num_boxes, **kwargs)

    def _losses(
        self,
        outputs: Mapping[str, Tensor],
        targets: Targets,
        indices: Indices,
        num_boxes: Tensor | float,
        suffix: str = "",
    ) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for loss in self.losses:
            found.update(self.get_loss(loss, outputs, targets, indices, num_boxes))
        return {name + suffix: value for name, value in found.items()}

    def _all_layers(self, outputs: Mapping[str, Any], targets: Targets) -> tuple[dict[str, Tensor], Indices]:
        """Losses of the last layer and of those before it, and the matches of the last layer."""
        num_boxes = self._num_boxes(outputs, targets)
        indices: Indices = self.matcher(outputs, targets)
        losses = self._losses(outputs, targets, indices, num_boxes)
        for i, layer in enumerate(outputs.get("aux_outputs", ())):
            losses.update(self._losses(layer, targets, self.matcher(layer, targets), num_boxes, f"_{i}"))
        return losses, indices

    def _selection(self, outputs: Mapping[str, Any], targets: Targets, binary: bool) -> dict[str, Tensor]:
        """Losses of query selection, where objects may all count as class 0."""
        if "enc_outputs" not in outputs:
            return {}
        if binary:
            targets = [{**t, "labels": torch.zeros_like(t["labels"])} for t in targets]
        selected = outputs["enc_outputs"]
        indices = self.matcher(selected, targets)
        return self._losses(selected, targets, indices, self._num_boxes(outputs, targets), "_enc")

    def _num_boxes(self, outputs: Mapping[str, Any], targets: Targets) -> Tensor:
        return mean_count(sum(len(t["labels"]) for t in targets), outputs["pred_logits"].device)

    def forward(
        self, outputs: Mapping[str, Any], targets: Targets, return_indices: bool = False
    ) -> dict[str, Tensor] | tuple[dict[str, Tensor], list[Indices]]:
        """Compute losses.

        Args:
            outputs: ``pred_logits`` [N, Q, classes] and ``pred_boxes`` [N, Q, 4] (centre, size in [0, 1]) of the last
                layer; ``aux_outputs``, a list of the same of the layers before.
            targets: for each image ``labels`` [T] and ``boxes`` [T, 4].
            return_indices: also return the matches of all layers, the last layer first.

        Returns:
            ``loss_class``, ``loss_bbox`` and ``loss_giou``; of layer i with ``_i`` behind.
        """
        losses, indices = self._all_layers(outputs, targets)
        if return_indices:
            others = [self.matcher(layer, targets) for layer in outputs.get("aux_outputs", ())]
            return losses, [indices, *others]
        return losses


class TwoStageCriterion(SetCriterion):
    """Losses of matched queries and of query selection.

    Args:
        num_classes: number of classes.
        matcher: from predictions and targets to indices of both.
        weight_dict: weights by names of losses.
        losses: "class" and "boxes", or one of them.
        eos_coef: weight of the class "no object" in cross-entropy.
        loss_class_type: "focal_loss" or "ce_loss".
        alpha: weight of positives in the focal loss.
        gamma: strength of the fading in the focal loss.
        two_stage_binary_cls: let all objects count as class 0 in query selection.
    """

    def __init__(
        self,
        num_classes: int,
        matcher: nn.Module,
        weight_dict: Mapping[str, float],
        losses: Sequence[str] = ("class", "boxes"),
        eos_coef: float | None = None,
        loss_class_type: str = "focal_loss",
        alpha: float = 0.25,
        gamma: float = 2,
        two_stage_binary_cls: bool = False,
    ) -> None:
        super().__init__(num_classes, matcher, weight_dict, losses, eos_coef, loss_class_type, alpha, gamma)
        self.two_stage_binary_cls = two_stage_binary_cls

    def forward(self, outputs: Mapping[str, Any], targets: Targets) -> dict[str, Tensor]:  # type: ignore[override]
        """Compute losses; those of ``enc_outputs`` have ``_enc`` behind. For the rest see :class:`SetCriterion`."""
        losses, _ = self._all_layers(outputs, targets)
        return {**losses, **self._selection(outputs, targets, self.two_stage_binary_cls)}


class DeformableCriterion(SetCriterion):
    """Losses of Deformable DETR: in query selection, all objects count as class 0.

    Args:
        num_classes: number of classes.
        matcher: from predictions and targets to indices of both.
        weight_dict: weights by names of losses.
        losses: "class" and "boxes", or one of them.
        eos_coef: weight of the class "no object" in cross-entropy.
        loss_class_type: "focal_loss" or "ce_loss".
        alpha: weight of positives in the focal loss.
        gamma: strength of the fading in the focal loss.
    """

    def forward(self, outputs: Mapping[str, Any], targets: Targets) -> dict[str, Tensor]:  # type: ignore[override]
        """Compute losses; those of ``enc_outputs`` have ``_enc`` behind. For the rest see :class:`SetCriterion`."""
        losses, _ = self._all_layers(outputs, targets)
        return {**losses, **self._selection(outputs, targets, binary=True)}


class DINOCriterion(TwoStageCriterion):
    """Losses of DINO: of matched queries, of query selection and of denoising queries.

    Args:
        num_classes: number of classes.
        matcher: from predictions and targets to indices of both.
        weight_dict: weights by names of losses.
        losses: "class" and "boxes", or one of them.
        eos_coef: weight of the class "no object" in cross-entropy.
        loss_class_type: "focal_loss" or "ce_loss".
        alpha: weight of positives in the focal loss.
        gamma: strength of the fading in the focal loss.
        two_stage_binary_cls: let all objects count as class 0 in query selection.
    """

    def forward(  # type: ignore[override]
        self, outputs: Mapping[str, Any], targets: Targets, dn_metas: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Compute losses; those of denoising have ``_dn`` behind, those of layer i ``_dn_i``.

        Args:
            outputs: see :class:`SetCriterion`; ``enc_outputs`` of query selection.
            targets: for each image ``labels`` [T] and ``boxes`` [T, 4].
            dn_metas: ``dn_num`` groups of ``single_padding`` queries, and their ``output_known_lbs_bboxes`` in the form
                of ``outputs``; None if there are none, and their losses are 0.
        """
        losses = super().forward(outputs, targets)
        layers = len(outputs.get("aux_outputs", ()))
        num_boxes = self._num_boxes(outputs, targets)
        return {**losses, **self.compute_dn_loss(dn_metas, targets, layers, num_boxes)}

    def compute_dn_loss(
        self, dn_metas: Mapping[str, Any] | None, targets: Targets, aux_num: int, num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Compute the losses of denoising queries.

        The place of a query tells its object: each group has a positive copy of each object, then the negatives.

        Args:
            dn_metas: see :meth:`forward`.
            targets: for each image ``labels`` [T] and ``boxes`` [T, 4].
            aux_num: number of layers before the last.
            num_boxes: number of objects that losses are divided by, for each group.
        """
        suffixes = ["_dn", *(f"_dn_{i}" for i in range(aux_num))]
        if not dn_metas or "output_known_lbs_bboxes" not in dn_metas:
            zero = torch.zeros((), device=num_boxes.device if isinstance(num_boxes, Tensor) else None)
            return {
                name + suffix: zero
                for suffix in suffixes
                for name in ("loss_class", "loss_bbox", "loss_giou")
            }
        known, groups = dn_metas["output_known_lbs_bboxes"], dn_metas["dn_num"]
        device = known["pred_logits"].device
        starts = torch.arange(groups, device=device)[:, None] * dn_metas["single_padding"]
        indices: Indices = []
        for target in targets:
            objects = torch.arange(len(target["labels"]), device=device)
            indices.append(((starts + objects).flatten(), objects.repeat(groups)))
        losses: dict[str, Tensor] = {}
        for suffix, layer in zip(suffixes, [known, *known.get("aux_outputs", ())]):
            losses.update(self._losses(layer, targets, indices, num_boxes * groups, suffix))
        return losses


def _matched(targets: Targets, indices: Indices, key: str) -> Tensor:
    """Gather what the matched targets of all images have under a key, image by image."""
    return torch.cat([t[key][which.to(t[key].device)] for t, (_, which) in zip(targets, indices)])
