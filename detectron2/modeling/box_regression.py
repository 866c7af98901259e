"""Encoding of boxes relative to reference boxes (anchors, proposals), its inverse, and the loss on it.

Shapes: R boxes, K predictions (classes) per box, N images, A anchors, D = 4 or 5 numbers per box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from detectron2.layers import cat, ciou_loss, diou_loss
from detectron2.layers.losses import giou_loss, smooth_l1_loss
from detectron2.structures import Boxes
from detectron2.utils.errors import BadType, BadValue

__all__ = ["Box2BoxTransform", "Box2BoxTransformLinear", "Box2BoxTransformRotated", "BoxTransform"]

# Limits growth to a factor of 1000 / 16: from a cell of 16 pixels to a box of 1000 pixels.
_DEFAULT_SCALE_CLAMP = math.log(1000.0 / 16)


def _require_positive_sizes(sizes: Tensor, what: str) -> None:
    """Raise if a reference box has no area; accelerators check asynchronously, compiled graphs do not."""
    if torch.compiler.is_compiling():
        return
    positive = (sizes > 0).all()
    if sizes.device.type == "cpu":
        if not bool(positive):
            raise BadValue(
                f"{what} must have positive width and height, got a smallest side of {sizes.min().item()}"
            )
    else:
        torch._assert_async(positive)


def _split_boxes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Convert corners [..., 4] to centers [..., 2] and sizes [..., 2]."""
    low, high = boxes[..., :2], boxes[..., 2:]
    sizes = high - low
    return low + 0.5 * sizes, sizes


class BoxTransform(Protocol):
    """Encodes boxes as deltas from reference boxes and back. D numbers per box."""

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor, /) -> Tensor:
        """Compute deltas [R, D] from reference boxes [R, D] to target boxes [R, D]."""

    def apply_deltas(self, deltas: Tensor, boxes: Tensor, /) -> Tensor:
        """Apply deltas [R, K * D] to reference boxes [R, D]; return boxes [R, K * D]."""


class Box2BoxTransform:
    """Deltas (dx, dy, dw, dh): shift of the center in units of the reference size, and log-ratio of sizes.

    ``dx = wx * (cx_target - cx) / w`` and ``dw = ww * log(w_target / w)``; likewise for y and h.
    R-CNN (Girshick et al. 2014, https://arxiv.org/abs/1311.2524), appendix C.

    Args:
        weights: factors (wx, wy, ww, wh) that scale the deltas to about unit variance. Faster R-CNN's box head
            uses (10, 10, 5, 5).
        scale_clamp: upper bound on dw / ww and dh / wh in :meth:`apply_deltas`, which keeps exp() finite.
    """

    def __init__(self, weights: Sequence[float], scale_clamp: float = _DEFAULT_SCALE_CLAMP) -> None:
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Compute the deltas [R, 4] that transform ``src_boxes`` into ``target_boxes``, both [R, 4] XYXY.

        Raises:
            ValueError: if a source box has no area (on accelerators an asynchronous device assertion).
        """
        _check_pairs(src_boxes, target_boxes)
        src_center, src_size = _split_boxes(src_boxes)
        dst_center, dst_size = _split_boxes(target_boxes)
        _require_positive_sizes(src_size, "source boxes")
        wx, wy, ww, wh = self.weights
        shift = (dst_center - src_center) / src_size
        growth = torch.log(dst_size / src_size)
        return torch.stack(
            (wx * shift[..., 0], wy * shift[..., 1], ww * growth[..., 0], wh * growth[..., 1]), dim=-1
        )

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Compute boxes [R, K * 4], at least float32, from deltas [R, K * 4] on reference boxes [R, 4] XYXY, K >= 1."""
        d = deltas.float() if deltas.dtype in (torch.float16, torch.bfloat16) else deltas
        center, size = _split_boxes(boxes.to(d.dtype).unsqueeze(-2))  # [R, 1, 2]
        d = d.reshape(*d.shape[:-1], d.shape[-1] // 4, 4)  # [R, K, 4]
        wx, wy, ww, wh = self.weights
        cx = d[..., 0] / wx * size[..., 0] + center[..., 0]  # [R, K]
        cy = d[..., 1] / wy * size[..., 1] + center[..., 1]
        half_w = 0.5 * size[..., 0] * torch.exp((d[..., 2] / ww).clamp(max=self.scale_clamp))
        half_h = 0.5 * size[..., 1] * torch.exp((d[..., 3] / wh).clamp(max=self.scale_clamp))
        corners = torch.stack((cx - half_w, cy - half_h, cx + half_w, cy + half_h), dim=-1)
        return corners.reshape(deltas.shape)


class Box2BoxTransformRotated:
    """The transform of :class:`Box2BoxTransform` plus the change of angle: (dx, dy, dw, dh, da).

    ``da`` is the difference of angles, wrapped to [-180, 180) degrees, in radians, times its weight.

    Args:
        weights: factors (wx, wy, ww, wh, wa).
        scale_clamp: as in :class:`Box2BoxTransform`.
    """

    def __init__(self, weights: Sequence[float], scale_clamp: float = _DEFAULT_SCALE_CLAMP) -> None:
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Compute deltas [R, 5] from boxes [R, 5] to boxes [R, 5], both (cx, cy, w, h, angle in degrees).

        Raises:
            ValueError: if a source box has no area (on accelerators an asynchronous device assertion).
        """
        _check_pairs(src_boxes, target_boxes)
        sizes = src_boxes[..., 2:4]
        _require_positive_sizes(sizes, "source boxes")
        shift = (target_boxes[..., :2] - src_boxes[..., :2]) / sizes
        growth = torch.log(target_boxes[..., 2:4] / sizes)
        turn = _wrap_degrees(target_boxes[..., 4:] - src_boxes[..., 4:]) * (math.pi / 180.0)
        parts = torch.cat((shift, growth, turn), dim=-1).unbind(-1)
        return torch.stack([w * p for w, p in zip(self.weights, parts)], dim=-1)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Compute boxes [R, K * 5] from deltas [R, K * 5] on reference boxes [R, 5]; angles in [-180, 180)."""
        d = deltas.float() if deltas.dtype in (torch.float16, torch.bfloat16) else deltas
        base = boxes.to(d.dtype).unsqueeze(-2)  # [R, 1, 5]
        d = d.reshape(*d.shape[:-1], d.shape[-1] // 5, 5)  # [R, K, 5]
        dx, dy, dw, dh, da = (p / w for p, w in zip(d.unbind(-1), self.weights))
        out = (
            dx * base[..., 2] + base[..., 0],
            dy * base[..., 3] + base[..., 1],
            base[..., 2] * torch.exp(dw.clamp(max=self.scale_clamp)),
            base[..., 3] * torch.exp(dh.clamp(max=self.scale_clamp)),
            _wrap_degrees(da * (180.0 / math.pi) + base[..., 4]),
        )
        return torch.stack(out, dim=-1).reshape(deltas.shape)


class Box2BoxTransformLinear:
    """Deltas (left, top, right, bottom): distances from the center of the reference box to the sides of the target.

    FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355), equation 1.

    Args:
        normalize_by_size: divide the distances by the width and height of the reference box, which in a dense
            detector is a cell of the feature map.
    """

    def __init__(self, normalize_by_size: bool = True) -> None:
        self.normalize_by_size = normalize_by_size

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Compute distances [R, 4] from the centers of ``src_boxes`` [R, 4] to the sides of ``target_boxes`` [R, 4].

        A negative distance means that the center lies outside the target.
        """
        _check_pairs(src_boxes, target_boxes)
        center, size = _split_boxes(src_boxes)
        distances = torch.cat((center - target_boxes[..., :2], target_boxes[..., 2:] - center), dim=-1)
        return distances / torch.cat((size, size), dim=-1) if self.normalize_by_size else distances

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Compute boxes [R, K * 4] from distances [R, K * 4] and reference boxes [R, 4]; negative distances count as 0."""
        d = deltas.float() if deltas.dtype in (torch.float16, torch.bfloat16) else deltas
        center, size = _split_boxes(boxes.to(d.dtype).unsqueeze(-2))  # [R, 1, 2]
        d = d.reshape(*d.shape[:-1], d.shape[-1] // 4, 4).relu()  # [R, K, 4]
        low, high = d[..., :2], d[..., 2:]
        if self.normalize_by_size:
            low, high = low * size, high * size
        return torch.cat((center - low, center + high), dim=-1).reshape(deltas.shape)


def _check_pairs(src: Tensor, dst: Tensor) -> None:
    for name, t in (("src_boxes", src), ("target_boxes", dst)):
        if not isinstance(t, Tensor):
            raise BadType(f"{name} must be a tensor of boxes, got {type(t).__name__}; use .tensor of a Boxes")


def _wrap_degrees(angle: Tensor) -> Tensor:
    """Wrap angles to [-180, 180)."""
    return torch.remainder(angle + 180.0, 360.0) - 180.0


def _dense_box_regression_loss(
    anchors: Sequence[Boxes | Tensor],
    box2box_transform: BoxTransform,
    pred_anchor_deltas: list[Tensor],
    gt_boxes: list[Tensor],
    fg_mask: Tensor,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """Sum the localisation loss over the foreground anchors of a batch.

    Args:
        anchors: one Boxes (or RotatedBoxes, or tensor) for each feature level.
        box2box_transform: encodes boxes as deltas.
        pred_anchor_deltas: predictions [N, A_level, D] for each level.
        gt_boxes: target box of each anchor, [A, D] for each of N images.
        fg_mask: bool [N, A], the foreground anchors.
        box_reg_loss_type: "smooth_l1" on deltas, or "giou", "diou" or "ciou" on boxes.
        smooth_l1_beta: error at which smooth L1 changes from quadratic to linear; 0 means plain L1.

    Raises:
        ValueError: for an unknown loss type.
    """
    base = cat([a if isinstance(a, Tensor) else a.tensor for a in anchors])  # [A, D]
    image, anchor = fg_mask.nonzero(as_tuple=True)  # [P]
    predicted = cat(pred_anchor_deltas, dim=1)[image, anchor]  # [P, D]
    target = torch.stack(list(gt_boxes))[image, anchor]  # [P, D]
    reference = base[anchor]  # [P, D]
    return _box_loss(box2box_transform, reference, predicted, target, box_reg_loss_type, smooth_l1_beta)


def _box_loss(
    transform: BoxTransform,
    reference: Tensor,
    deltas: Tensor,
    target: Tensor,
    kind: str,
    smooth_l1_beta: float,
    chosen: Tensor | None = None,
) -> Tensor:
    """Sum the loss of P predicted deltas on P reference boxes against P target boxes.

    If given, ``chosen``, bool [P], tells which of them count; the others may be anything.
    """
    if (
        chosen is not None
    ):  # a box that is predicted exactly adds nothing to any of the losses, nor to a gradient
        filler = 1024.0 * (torch.arange(4, device=target.device) >= 2)
        reference, target = (torch.where(chosen[:, None], x, filler) for x in (reference, target))
        deltas = torch.where(chosen[:, None], deltas, 0.0)
    if kind == "smooth_l1":
        return smooth_l1_loss(
            deltas, transform.get_deltas(reference, target), beta=smooth_l1_beta, reduction="sum"
        )
    overlap_losses = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}
    if kind not in overlap_losses:
        raise BadValue(
            f"unknown box regression loss {kind!r}; known are 'smooth_l1', 'giou', 'diou' and 'ciou'"
        )
    return overlap_losses[kind](transform.apply_deltas(deltas, reference), target, reduction="sum")
