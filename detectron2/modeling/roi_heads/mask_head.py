"""Heads that predict masks within boxes.

Mask R-CNN (He et al. 2017, https://arxiv.org/abs/1703.06870).
R boxes of a batch (R_i of one image), K classes, M x M cells of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat, get_norm
from detectron2.layers.weight_init import c2_msra_fill
from detectron2.layers.wrappers import inference_layout
from detectron2.structures import BitMasks, Instances
from detectron2.utils.errors import BadValue
from detectron2.utils.events import get_event_storage
from detectron2.utils.reexports import passed_on
from detectron2.utils.registry import Registry

from ..tensor_inference import Tensors

__all__ = [
    "ROI_MASK_HEAD_REGISTRY",
    "BaseMaskRCNNHead",
    "MaskRCNNConvUpsampleHead",
    "build_mask_head",
]

__getattr__ = passed_on(__name__)

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")
ROI_MASK_HEAD_REGISTRY.__doc__ = """
Heads that predict masks from pooled features. An entry is called with ``(cfg, input_shape)``;
:class:`BaseMaskRCNNHead` describes the interface of a head.
"""


def mask_rcnn_loss(pred_mask_logits: Tensor, instances: list[Instances], vis_period: int = 0) -> Tensor:
    """Compute the mean binary cross-entropy between predicted masks and the ground truth cropped to the proposals.

    Args:
        pred_mask_logits: [R, K, M, M], or [R, 1, M, M] if classes share a mask.
        instances: foreground Instances, R in total, with ``proposal_boxes``, ``gt_classes`` and ``gt_masks``.
        vis_period: number of iterations between logged images of predictions and ground truth; 0 = never.

    Returns:
        A scalar; 0, attached to the predictions, if R = 0.

    Raises:
        ValueError: if the predicted masks are not square.
    """
    side = pred_mask_logits.shape[-1]
    if pred_mask_logits.shape[-2] != side:
        raise BadValue(f"masks must be square, got logits {list(pred_mask_logits.shape)}")
    present = [x for x in instances if len(x)]
    if not present:
        return pred_mask_logits.sum() * 0.0
    truth = cat([x.gt_masks.crop_and_resize(x.proposal_boxes.tensor, side) for x in present])
    truth = truth.to(device=pred_mask_logits.device, dtype=torch.bool)  # [R, M, M]
    classes = cat([x.gt_classes for x in present]).to(torch.int64)
    logits = masks_of_classes(pred_mask_logits, classes)  # [R, M, M]
    # Tensors, not numbers, so that the device is not synchronised until a writer reads them.
    for name, figure in _mask_figures(logits.detach(), truth).items():
        get_event_storage().put_scalar(name, figure)
    if vis_period > 0:
        _record_masks(logits.detach(), truth, vis_period)
    return F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="mean")


def masks_of_classes(masks: Tensor, classes: Tensor) -> Tensor:
    """Select the entries [R, ...] of classes [R] from [R, K, ...]; if K = 1, the only ones."""
    if masks.shape[1] == 1:
        return masks[:, 0]
    return masks[torch.arange(masks.shape[0], device=masks.device), classes]


def _mask_figures(logits: Tensor, truth: Tensor, chosen: Tensor | None = None) -> dict[str, Tensor]:
    """Return the fraction of correct cells, and those of wrong cells among empty and among filled ones.

    If given, only the masks ``chosen``, bool [R], count.
    """
    wrong = (logits > 0) != truth
    empty, filled = ~truth, truth
    if chosen is not None:
        empty, filled = empty & chosen[:, None, None], filled & chosen[:, None, None]
    num_empty, num_filled = empty.sum(), filled.sum()
    wrong_empty, wrong_filled = (wrong & empty).sum(), (wrong & filled).sum()
    total = (num_empty + num_filled).clamp(min=1)
    return {
        "mask_rcnn/accuracy": 1 - (wrong_empty + wrong_filled) / total,
        "mask_rcnn/false_positive": wrong_empty / num_empty.clamp(min=1),
        "mask_rcnn/false_negative": wrong_filled / num_filled.clamp(min=1),
    }


def _record_masks(logits: Tensor, truth: Tensor, period: int) -> None:
    storage = get_event_storage()
    if storage.iter % period:
        return
    pairs = torch.cat((logits.sigmoid(), truth.to(logits.dtype)), dim=2)  # [R, M, 2 * M]
    for i, pair in enumerate(pairs[:8]):
        storage.put_image(f"Left: mask prediction;   Right: mask GT ({i})", pair[None].expand(3, -1, -1))


def mask_rcnn_inference(pred_mask_logits: Tensor, pred_instances: list[Instances]) -> None:
    """Set ``pred_masks`` [R_i, 1, M, M] in [0, 1], the masks of the predicted classes, in place.

    Args:
        pred_mask_logits: [R, K, M, M] or [R, 1, M, M].
        pred_instances: Instances with ``pred_classes``, R in total.
    """
    if not pred_instances:
        return
    classes = cat([x.pred_classes for x in pred_instances])
    soft = masks_of_classes(pred_mask_logits, classes).sigmoid()[:, None]  # [R, 1, M, M]
    for x, masks in zip(pred_instances, soft.split([len(x) for x in pred_instances])):
        x.pred_masks = masks


class BaseMaskRCNNHead(nn.Module):
    """Base of mask heads: computes the loss, and sets masks of Instances. Subclasses define :meth:`layers`.

    Args:
        loss_weight: factor on the loss.
        vis_period: see :func:`mask_rcnn_loss`.
    """

    @configurable
    def __init__(self, *, loss_weight: float = 1.0, vis_period: int = 0) -> None:
        super().__init__()
        self.vis_period = vis_period
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the arguments from ``VIS_PERIOD``."""
        return {"vis_period": cfg.VIS_PERIOD}

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        """Compute the loss in training; in evaluation, set ``pred_masks`` of the Instances and return them.

        Args:
            x: pooled features [R, C, H, W].
            instances: see :func:`mask_rcnn_loss` for training and :func:`mask_rcnn_inference` for evaluation.
        """
        logits = self.layers(x)
        if self.training:
            return {"loss_mask": mask_rcnn_loss(logits, instances, self.vis_period) * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    def predict_tensors(self, x: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
        """Predict the mask of each detection, for :class:`.TensorInference`.

        Args:
            x: pooled features [N * D, C, H, W] or, without a mask pooler, the feature maps by name.
            boxes: [N, D, 4].
            classes: [N, D].

        Returns:
            Soft masks within the boxes, [N, D, M, M] in [0, 1].
        """
        return masks_of_classes(self.layers(x), classes.flatten()).sigmoid().unflatten(0, classes.shape)

    def loss_tensors(self, x: Tensor, sample: Tensors, masks: Tensor) -> Tensors:
        """Compute the loss of a fixed number of proposals per image; see :mod:`.fixed_shapes`.

        Args:
            x: pooled features [N * k, C, H, W].
            sample: the proposals, see :func:`.match_and_sample_padded`.
            masks: ground truth, bool [N, number of masks, height, width].

        Returns:
            ``loss_mask``, and with a slash in their names figures for the log.
        """
        logits = self.layers(x)
        classes = sample["classes"].flatten().clamp(max=logits.shape[1] - 1)
        logits = masks_of_classes(logits, classes)  # [N * k, M, M]
        first = torch.arange(masks.shape[0], device=masks.device)[:, None] * masks.shape[1]
        rows = (first + sample["matches"]).flatten()
        boxes = sample["boxes"].flatten(0, 1)
        truth = BitMasks(masks.flatten(0, 1)).crop_and_resize(boxes, logits.shape[-1], rows)
        chosen = sample["foreground"].flatten()
        each = F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none")
        loss = torch.where(chosen, each.mean(dim=(1, 2)), 0.0).sum() / chosen.sum().clamp(min=1)
        return {"loss_mask": loss * self.loss_weight} | _mask_figures(logits.detach(), truth, chosen)

    def layers(self, x: Tensor) -> Tensor:
        """Compute logits [R, K or 1, M, M] from pooled features [R, C, H, W]."""
        raise NotImplementedError(f"{type(self).__name__} must define layers(x), which predicts mask logits")


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions, a transposed convolution that doubles the resolution, and a 1x1 convolution.

    Args:
        input_shape: channels of the pooled features.
        num_classes: K, or 1 for class-agnostic masks.
        conv_dims: output channels of the convolutions; the last entry is for the transposed convolution.
        conv_norm: norm of the convolutions, see :func:`detectron2.layers.get_norm`.
        kwargs: arguments of :class:`BaseMaskRCNNHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        conv_norm: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not len(conv_dims):
            raise BadValue(
                "conv_dims needs at least one entry, the channels of the transposed convolution, got none"
            )
        width = input_shape.channels or 0
        self.conv_norm_relus: list[nn.Module] = []
        for i, dim in enumerate(conv_dims[:-1], start=1):
            conv = Conv2d(
                width,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=nn.ReLU(),
            )
            self.add_module(f"mask_fcn{i}", conv)
            self.conv_norm_relus.append(conv)
            width = dim
        self.deconv = ConvTranspose2d(width, conv_dims[-1], kernel_size=2, stride=2)
        self.add_module("deconv_relu", nn.ReLU())
        self.predictor = Conv2d(conv_dims[-1], num_classes, kernel_size=1)
        for layer in (*self.conv_norm_relus, self.deconv):
            c2_msra_fill(layer)
        nn.init.normal_(self.predictor.weight, std=0.001)
        if self.predictor.bias is not None:
            nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the arguments from ``MODEL.ROI_MASK_HEAD``."""
        node = cfg.MODEL.ROI_MASK_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "conv_dims": [node.CONV_DIM] * (node.NUM_CONV + 1),
            "conv_norm": node.NORM,
            "num_classes": 1 if node.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        }

    def layers(self, x: Tensor) -> Tensor:
        """Compute logits [R, K or 1, 2 * H, 2 * W] from pooled features [R, C, H, W]."""
        x = inference_layout(x)
        for layer in self:
            x = layer(x)
        return x


def build_mask_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the registered head that ``MODEL.ROI_MASK_HEAD.NAME`` names."""
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)
