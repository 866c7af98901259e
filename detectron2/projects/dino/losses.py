"""Losses with weights of samples and a factor to average by, as detrex has them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.layers import losses
from detectron2.utils.errors import BadValue

__all__ = [
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "GIoULoss",
    "L1Loss",
    "cross_entropy",
    "dice_loss",
    "giou_loss",
    "l1_loss",
    "reduce_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "weight_reduce_loss",
]


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """Return the "mean" or "sum" of losses, or with "none" the losses themselves."""
    if reduction not in ("mean", "sum", "none"):
        raise BadValue(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def weight_reduce_loss(
    loss: Tensor, weight: Tensor | None = None, reduction: str = "mean", avg_factor: float | None = None
) -> Tensor:
    """Weight losses and reduce them.

    Args:
        loss: any shape.
        weight: multiplied with the losses.
        reduction: "mean", "sum" or "none".
        avg_factor: what "mean" divides the sum by; the number of losses by default.
    """
    if weight is not None:
        loss = loss * weight
    if avg_factor is None or reduction == "none":
        return reduce_loss(loss, reduction)
    if reduction != "mean":
        raise BadValue(f"avg_factor needs reduction 'mean' or 'none', got {reduction!r}")
    return loss.sum() / avg_factor


def sigmoid_focal_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """Focal loss of logits and targets in [0, 1] of one shape; see :func:`weight_reduce_loss`.

    Args:
        preds: logits.
        targets: the same shape.
        weight: of the losses; may lack the last axis.
        alpha: weight of positives; negative for none.
        gamma: strength of the fading.
        reduction: "mean", "sum" or "none".
        avg_factor: what "mean" divides by.

    Reference: https://arxiv.org/abs/1708.02002
    """
    loss = losses.sigmoid_focal_loss(preds, targets, alpha, gamma)
    if weight is not None and weight.dim() == loss.dim() - 1:
        weight = weight[..., None]
    return weight_reduce_loss(loss, weight, reduction, avg_factor)


def dice_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    eps: float = 1e-4,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """Dice loss of probabilities, 1 less the overlap of each sample; see :func:`weight_reduce_loss`.

    Args:
        preds: [N, ...] probabilities.
        targets: [N, ...] in [0, 1].
        weight: [N].
        eps: added to numerator and denominator, beside 1.
        reduction: "mean", "sum" or "none".
        avg_factor: what "mean" divides by.

    Reference: V-Net, https://arxiv.org/abs/1606.04797
    """
    p, t = preds.flatten(1), targets.flatten(1).to(preds)
    overlap = (2 * (p * t).sum(1) + 1 + eps) / (p.sum(1) + t.sum(1) + 1 + eps)
    return weight_reduce_loss(1 - overlap, weight, reduction, avg_factor)


def smooth_l1_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    beta: float = 1.0,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """Differences that count squared below ``beta``; see :func:`weight_reduce_loss`."""
    return weight_reduce_loss(losses.smooth_l1_loss(preds, targets, beta), weight, reduction, avg_factor)


def l1_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """Absolute differences; see :func:`weight_reduce_loss`."""
    return weight_reduce_loss((preds - targets).abs(), weight, reduction, avg_factor)


def giou_loss(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    eps: float = 1e-6,
    reduction: str = "mean",
    avg_factor: float | None = None,
) -> Tensor:
    """1 less the generalised IoU of boxes [N, 4], given by their corners; see :func:`weight_reduce_loss`."""
    return weight_reduce_loss(losses.giou_loss(preds, targets, eps=eps), weight, reduction, avg_factor)


def cross_entropy(
    preds: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    reduction: str = "mean",
    avg_factor: float | None = None,
    ignore_index: int = -100,
    avg_non_ignore: bool = False,
) -> Tensor:
    """Cross-entropy of logits [N, classes] and labels [N]; see :func:`weight_reduce_loss`.

    Args:
        preds: logits.
        targets: labels.
        weight: [N].
        class_weight: [classes].
        reduction: "mean", "sum" or "none".
        avg_factor: what "mean" divides by.
        ignore_index: label that has no loss.
        avg_non_ignore: let "mean" divide by the number of labels that have a loss.
    """
    loss = F.cross_entropy(preds, targets, class_weight, reduction="none", ignore_index=ignore_index)
    if avg_factor is None and avg_non_ignore and reduction == "mean":
        avg_factor = (targets != ignore_index).sum()  # type: ignore[assignment]
    return weight_reduce_loss(loss, None if weight is None else weight.float(), reduction, avg_factor)


class _Loss(nn.Module):
    def __init__(self, reduction: str = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.reduction = reduction
        self.loss_weight = loss_weight


class CrossEntropyLoss(_Loss):
    """Cross-entropy, see :func:`cross_entropy`.

    Args:
        reduction: "mean", "sum" or "none".
        loss_weight: factor.
        ignore_index: label that has no loss; None for -100.
        avg_non_ignore: let "mean" divide by the number of labels that have a loss.
    """

    def __init__(
        self,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        ignore_index: int | None = None,
        avg_non_ignore: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.ignore_index = ignore_index
        self.avg_non_ignore = avg_non_ignore

    def forward(
        self,
        preds: Tensor,
        targets: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        class_weight: Tensor | None = None,
        ignore_index: int | None = None,
        **kwargs: object,
    ) -> Tensor:
        """Compute the loss; ``ignore_index`` replaces the one of the constructor."""
        ignore = self.ignore_index if ignore_index is None else ignore_index
        return self.loss_weight * cross_entropy(
            preds,
            targets,
            weight,
            class_weight,
            self.reduction,
            avg_factor,
            -100 if ignore is None else ignore,
            self.avg_non_ignore,
        )


class FocalLoss(_Loss):
    """Focal loss, see :func:`sigmoid_focal_loss`.

    Args:
        alpha: weight of positives; negative for none.
        gamma: strength of the fading.
        reduction: "mean", "sum" or "none".
        loss_weight: factor.
        activated: predictions are probabilities rather than logits.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.alpha = alpha
        self.gamma = gamma
        self.activated = activated

    def forward(
        self,
        preds: Tensor,
        targets: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
    ) -> Tensor:
        """Compute the loss of [N, classes]; targets are of this shape, or labels [N], ``classes`` for none."""
        if targets.dim() < preds.dim():
            targets = F.one_hot(targets, preds.shape[-1] + 1)[..., :-1]
        logits = torch.logit(preds, 1e-6) if self.activated else preds
        return self.loss_weight * sigmoid_focal_loss(
            logits, targets.to(logits), weight, self.alpha, self.gamma, self.reduction, avg_factor
        )


class DiceLoss(_Loss):
    """Dice loss, see :func:`dice_loss`.

    Args:
        use_sigmoid: predictions are logits.
        reduction: "mean", "sum" or "none".
        loss_weight: factor.
        eps: added to numerator and denominator, beside 1.
    """

    def __init__(
        self, use_sigmoid: bool = True, reduction: str = "mean", loss_weight: float = 1.0, eps: float = 1e-3
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.use_sigmoid = use_sigmoid
        self.eps = eps

    def forward(
        self, preds: Tensor, targets: Tensor, weight: Tensor | None = None, avg_factor: float | None = None
    ) -> Tensor:
        """Compute the loss of [N, ...]."""
        p = preds.sigmoid() if self.use_sigmoid else preds
        return self.loss_weight * dice_loss(p, targets, weight, self.eps, self.reduction, avg_factor)


class L1Loss(_Loss):
    """Absolute differences, see :func:`l1_loss`.

    Args:
        reduction: "mean", "sum" or "none".
        loss_weight: factor.
    """

    def forward(
        self, preds: Tensor, targets: Tensor, weight: Tensor | None = None, avg_factor: float | None = None
    ) -> Tensor:
        """Compute the loss."""
        return self.loss_weight * l1_loss(preds, targets, weight, self.reduction, avg_factor)


class GIoULoss(_Loss):
    """1 less the generalised IoU, see :func:`giou_loss`.

    Args:
        eps: added to divisors.
        reduction: "mean", "sum" or "none".
        loss_weight: factor.
    """

    def __init__(self, eps: float = 1e-6, reduction: str = "mean", loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
        self.eps = eps

    def forward(
        self, preds: Tensor, targets: Tensor, weight: Tensor | None = None, avg_factor: float | None = None
    ) -> Tensor:
        """Compute the loss of boxes [N, 4], given by their corners."""
        return self.loss_weight * giou_loss(preds, targets, weight, self.eps, self.reduction, avg_factor)
