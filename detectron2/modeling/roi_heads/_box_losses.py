"""Losses of a fixed number of proposals, and figures of classification for the log.

N images, k proposals of each, K classes, D numbers per box.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.utils.events import get_event_storage

from ..box_regression import BoxTransform, _box_loss
from ..tensor_inference import Tensors


class BoxOptions(Protocol):
    """The options of :class:`.FastRCNNOutputLayers` that losses need."""

    num_classes: int
    box_dim: int
    use_sigmoid_ce: bool
    box2box_transform: BoxTransform
    box_reg_loss_type: str
    smooth_l1_beta: float


def _log_classification_stats(pred_logits: Tensor, gt_classes: Tensor, prefix: str = "fast_rcnn") -> None:
    """Log the accuracy on all proposals and on foreground, and the fraction of foreground classified as background.

    Args:
        pred_logits: [R, K + 1], background last.
        gt_classes: [R] in [0, K].
        prefix: prefix of the names of the scalars.
    """
    if gt_classes.numel() == 0:
        return
    background = pred_logits.shape[1] - 1
    predicted = pred_logits.argmax(dim=1)
    foreground = torch.nonzero((gt_classes >= 0) & (gt_classes < background))[:, 0]
    found = predicted[foreground]
    storage = get_event_storage()
    # Tensors, not numbers, so that the device is not synchronised until a writer reads them.
    storage.put_scalar(f"{prefix}/cls_accuracy", (predicted == gt_classes).float().mean())
    if len(foreground):
        storage.put_scalar(f"{prefix}/fg_cls_accuracy", (found == gt_classes[foreground]).float().mean())
        storage.put_scalar(f"{prefix}/false_negative", (found == background).float().mean())


def losses_of_fixed_samples(
    predictor: BoxOptions, scores: Tensor, deltas: Tensor, sample: Tensors
) -> Tensors:
    """Compute ``loss_cls`` and ``loss_box_reg`` without their weights, and figures for the log.

    Args:
        predictor: has the options.
        scores: [N * k, K + 1].
        deltas: [N * k, K * D] or [N * k, D].
        sample: the proposals, see :func:`.match_and_sample_padded`.
    """
    classes, drawn = sample["classes"].flatten(), sample["drawn"].flatten()
    count = drawn.sum().clamp(min=1)
    if predictor.use_sigmoid_ce:
        logits = scores[:, : predictor.num_classes]
        target = F.one_hot(classes, predictor.num_classes + 1)[:, : predictor.num_classes].to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=1)
    else:
        each = F.cross_entropy(scores, classes, reduction="none")
    found = {
        "loss_cls": torch.where(drawn, each, 0.0).sum() / count,
        "loss_box_reg": _fixed_box_loss(predictor, deltas, sample) / count,
    }
    return found | _figures(scores, classes, drawn, sample["foreground"].flatten(), sample["drawn"].shape[0])


def _fixed_box_loss(predictor: BoxOptions, deltas: Tensor, sample: Tensors) -> Tensor:
    """Sum the localisation loss of foreground."""
    classes, chosen = sample["classes"].flatten(), sample["foreground"].flatten()
    by_class = deltas.unflatten(1, (-1, predictor.box_dim))  # [N * k, K or 1, D]
    column = classes.clamp(max=by_class.shape[1] - 1)
    return _box_loss(
        predictor.box2box_transform,
        sample["boxes"].flatten(0, 1),
        by_class.take_along_dim(column[:, None, None], dim=1)[:, 0],
        sample["gt_boxes"].flatten(0, 1),
        predictor.box_reg_loss_type,
        predictor.smooth_l1_beta,
        chosen,
    )


@torch.no_grad()
def _figures(scores: Tensor, classes: Tensor, drawn: Tensor, foreground: Tensor, num_images: int) -> Tensors:
    background = scores.shape[1] - 1
    predicted = scores.argmax(dim=1)
    num_drawn, num_fg = drawn.sum(), foreground.sum()
    right = predicted == classes
    return {
        "fast_rcnn/cls_accuracy": (right & drawn).sum() / num_drawn.clamp(min=1),
        "fast_rcnn/fg_cls_accuracy": (right & foreground).sum() / num_fg.clamp(min=1),
        "fast_rcnn/false_negative": ((predicted == background) & foreground).sum() / num_fg.clamp(min=1),
        "roi_head/num_fg_samples": num_fg / num_images,
        "roi_head/num_bg_samples": (num_drawn - num_fg) / num_images,
    }
