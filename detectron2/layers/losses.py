"""Losses on boxes and on imbalanced classes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.utils.errors import BadValue

__all__ = ["ciou_loss", "diou_loss", "giou_loss", "sigmoid_focal_loss", "smooth_l1_loss"]


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        # The mean of an empty loss is 0, with a graph, so that every parameter still gets a gradient.
        return loss.mean() if loss.numel() > 0 else 0.0 * loss.sum()
    raise BadValue(f'reduction must be "none", "mean" or "sum", got {reduction!r}')


def _upcast(x: Tensor) -> Tensor:
    """Convert half precision to float32, since areas of boxes overflow float16 at 256 x 256 pixels."""
    return x.float() if x.is_floating_point() and x.element_size() < 4 else x


def smooth_l1_loss(input: Tensor, target: Tensor, beta: float, reduction: str = "none") -> Tensor:
    """Compute a loss that is quadratic within ``beta`` of the target, linear beyond.

    ``d² / (2 beta)`` for ``d = |input - target| < beta``, else ``d - beta / 2``. Unlike in ``torch``, the mean of an
    empty loss is 0.

    Args:
        input: any shape.
        target: the same shape.
        beta: boundary between the two parts, 0 or more; 0 gives the plain L1 loss.
        reduction: "none", "mean" or "sum".

    Reference: Fast R-CNN, https://arxiv.org/abs/1504.08083
    """
    # Below 1e-5 the quadratic part is negligible, and its division has unbounded gradients.
    if beta < 1e-5:
        return _reduce((input - target).abs(), reduction)
    return _reduce(F.smooth_l1_loss(input, target, reduction="none", beta=beta), reduction)


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = -1, gamma: float = 2, reduction: str = "none"
) -> Tensor:
    """Compute binary cross-entropy with lower weights for well-classified samples.

    ``-alpha_t (1 - p_t)^gamma log p_t``, where ``p_t`` is the probability of the true class.

    Args:
        inputs: logits, any shape.
        targets: 0 or 1 (or between), the same shape.
        alpha: weight of positives in [0, 1]; negatives get ``1 - alpha``. Negative: no weighting.
        gamma: strength of the down-weighting, 0 or more; 0 is plain cross-entropy.
        reduction: "none", "mean" or "sum".

    Reference: Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002
    """
    inputs, targets = _upcast(inputs), _upcast(targets)
    targets = targets.to(inputs.dtype)
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    wrong = torch.lerp(inputs.sigmoid(), (-inputs).sigmoid(), targets)  # 1 - p_t
    loss = loss * wrong**gamma
    if alpha >= 0:
        loss = loss * (targets * (2 * alpha - 1) + (1 - alpha))
    return _reduce(loss, reduction)


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return widths and heights, each [...]."""
    size = boxes[..., 2:] - boxes[..., :2]
    return size[..., 0], size[..., 1]


def _overlap(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the intersection, union and sides (..., 2) of the enclosing box of matched pairs."""
    if boxes1.shape[-1] != 4 or boxes2.shape[-1] != 4:
        raise BadValue(f"boxes must be [..., 4], got {tuple(boxes1.shape)} and {tuple(boxes2.shape)}")
    for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        if not torch.compiler.is_compiling() and boxes.device.type == "cpu":
            if bool((boxes[..., 2:] < boxes[..., :2]).any()):
                raise BadValue(f"{name} has boxes with x1 < x0 or y1 < y0; boxes must be (x0, y0, x1, y1)")
    near = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    far = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    overlaps = (far > near).all(-1)
    inter = torch.where(overlaps, (far - near).prod(-1), 0.0)
    (w1, h1), (w2, h2) = _sides(boxes1), _sides(boxes2)
    union = w1 * h1 + w2 * h2 - inter
    hull = torch.maximum(boxes1[..., 2:], boxes2[..., 2:]) - torch.minimum(boxes1[..., :2], boxes2[..., :2])
    return inter, union, hull


def giou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Compute ``1 - GIoU`` of matched pairs: IoU minus the share of the enclosing box that neither covers.

    Args:
        boxes1: [..., 4] XYXY.
        boxes2: the same shape.
        reduction: "none", "mean" or "sum".
        eps: added to denominators.

    Raises:
        ValueError: if a box has x1 < x0 or y1 < y0 (checked on the CPU only).

    Reference: Generalized Intersection over Union, https://arxiv.org/abs/1902.09630
    """
    inter, union, hull = _overlap(_upcast(boxes1), _upcast(boxes2))
    area = hull.prod(-1)
    giou = inter / (union + eps) - (area - union) / (area + eps)
    return _reduce(1 - giou, reduction)


def _diou(boxes1: Tensor, boxes2: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Compute ``(iou, iou - squared centre distance / squared diagonal of the enclosing box)``."""
    inter, union, hull = _overlap(boxes1, boxes2)
    iou = inter / (union + eps)
    # twice the vector between the centres
    apart = (boxes1[..., :2] + boxes1[..., 2:]) - (boxes2[..., :2] + boxes2[..., 2:])
    return iou, iou - 0.25 * apart.square().sum(-1) / (hull.square().sum(-1) + eps)


def diou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Compute ``1 - DIoU`` of matched pairs: IoU minus the squared ratio of centre distance and enclosing diagonal.

    Args:
        boxes1: [..., 4] XYXY.
        boxes2: the same shape.
        reduction: "none", "mean" or "sum".
        eps: added to denominators.

    Raises:
        ValueError: if a box has x1 < x0 or y1 < y0 (checked on the CPU only).

    Reference: Distance-IoU Loss, https://arxiv.org/abs/1911.08287
    """
    return _reduce(1 - _diou(_upcast(boxes1), _upcast(boxes2), eps)[1], reduction)


def ciou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Compute ``1 - CIoU`` of matched pairs: DIoU minus a penalty for different aspect ratios.

    Args:
        boxes1: [..., 4] XYXY.
        boxes2: the same shape.
        reduction: "none", "mean" or "sum".
        eps: added to denominators.

    Raises:
        ValueError: if a box has x1 < x0 or y1 < y0 (checked on the CPU only).

    Reference: Distance-IoU Loss, https://arxiv.org/abs/1911.08287
    """
    boxes1, boxes2 = _upcast(boxes1), _upcast(boxes2)
    iou, diou = _diou(boxes1, boxes2, eps)
    (w1, h1), (w2, h2) = _sides(boxes1), _sides(boxes2)
    unlike = (4 / math.pi**2) * (torch.atan(w2 / h2) - torch.atan(w1 / h1)).square()
    with torch.no_grad():  # the trade-off is a constant of the optimisation, as in the paper
        weight = unlike / (1 - iou + unlike + eps)
    return _reduce(1 - diou + weight * unlike, reduction)
