"""Heads that predict keypoints within boxes, as one heat map per keypoint.

Mask R-CNN (He et al. 2017, https://arxiv.org/abs/1703.06870), section 5.
R boxes of a batch (R_i of one image), K keypoints, S x S cells of a heat map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat, interpolate
from detectron2.layers.wrappers import inference_layout
from detectron2.structures import Instances, Keypoints, heatmaps_to_keypoints
from detectron2.structures.keypoints import heatmaps_to_keypoints_without_waits
from detectron2.utils.errors import BadValue
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry
from detectron2.utils.tracing import is_recording

from ..tensor_inference import Tensors

__all__ = [
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "BaseKeypointRCNNHead",
    "KRCNNConvDeconvUpsampleHead",
    "build_keypoint_head",
]

ROI_KEYPOINT_HEAD_REGISTRY = Registry("ROI_KEYPOINT_HEAD")
ROI_KEYPOINT_HEAD_REGISTRY.__doc__ = """
Heads that predict keypoint heat maps from pooled features. An entry is called with ``(cfg, input_shape)``;
:class:`BaseKeypointRCNNHead` describes the interface of a head.
"""


def build_keypoint_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the registered head that ``MODEL.ROI_KEYPOINT_HEAD.NAME`` names."""
    return ROI_KEYPOINT_HEAD_REGISTRY.get(cfg.MODEL.ROI_KEYPOINT_HEAD.NAME)(cfg, input_shape)


def keypoint_rcnn_loss(
    pred_keypoint_logits: Tensor, instances: list[Instances], normalizer: float | None
) -> Tensor:
    """Compute the cross-entropy over the cells of each heat map, for visible keypoints inside their proposals.

    Args:
        pred_keypoint_logits: [R, K, S, S].
        instances: foreground Instances, R in total, with ``gt_keypoints`` and ``proposal_boxes``.
        normalizer: divisor of the sum; None = the number of these keypoints.

    Returns:
        A scalar; 0, attached to the predictions, if there are no such keypoints.
    """
    num_keypoints, side = pred_keypoint_logits.shape[1], pred_keypoint_logits.shape[2]
    cells, valid = [], []
    for x in instances:
        if len(x):
            labelled = x.gt_keypoints.tensor.shape[1]
            if labelled != num_keypoints:
                raise ValueError(
                    f"the head predicts {num_keypoints} keypoints, but the ground truth has {labelled}; set "
                    f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS to {labelled}"
                )
            cell, ok = x.gt_keypoints.to_heatmap(x.proposal_boxes.tensor, side)  # [R_i, K] each
            cells.append(cell.flatten())
            valid.append(ok.flatten())
    counted = torch.nonzero(cat(valid))[:, 0] if cells else None  # [V]
    if counted is None or counted.numel() == 0:
        get_event_storage().put_scalar("kpts_num_skipped_batches", 1, smoothing_hint=False)
        return pred_keypoint_logits.sum() * 0.0
    logits = pred_keypoint_logits.reshape(-1, side * side)  # [R * K, S * S]
    if logits.shape[0] != sum(len(c) for c in cells):
        raise BadValue(
            f"got heat maps of {logits.shape[0] // num_keypoints} boxes, but ground truth of "
            f"{sum(len(c) for c in cells) // num_keypoints}"
        )
    loss = F.cross_entropy(logits[counted], cat(cells)[counted].long(), reduction="sum")
    return loss / (counted.numel() if normalizer is None else normalizer)


def keypoint_rcnn_inference(pred_keypoint_logits: Tensor, pred_instances: list[Instances]) -> None:
    """Set ``pred_keypoints`` [R_i, K, 3] (x, y, score) and ``pred_keypoint_heatmaps`` [R_i, K, S, S], in place.

    Args:
        pred_keypoint_logits: [R, K, S, S].
        pred_instances: Instances with ``pred_boxes``, R in total.
    """
    if not pred_instances:
        return
    boxes = cat([x.pred_boxes.tensor for x in pred_instances])
    logits = pred_keypoint_logits.detach()
    keypoints = heatmaps_to_keypoints(logits, boxes.detach())[:, :, [0, 1, 3]]  # without the logit
    sizes = [len(x) for x in pred_instances]
    for x, points, maps in zip(pred_instances, keypoints.split(sizes), logits.split(sizes)):
        x.pred_keypoints = points
        x.pred_keypoint_heatmaps = maps


class BaseKeypointRCNNHead(nn.Module):
    """Base of keypoint heads: computes the loss, and sets keypoints of Instances. Subclasses define :meth:`layers`.

    Args:
        num_keypoints: K.
        loss_weight: factor on the loss.
        loss_normalizer: divisor of the loss: "visible" = the number of visible keypoints inside their proposals, or a
            number per image.
    """

    @configurable
    def __init__(
        self, *, num_keypoints: int, loss_weight: float = 1.0, loss_normalizer: float | str = 1.0
    ) -> None:
        super().__init__()
        if isinstance(loss_normalizer, str) and loss_normalizer != "visible":
            raise BadValue(f"loss_normalizer must be a number or 'visible', got {loss_normalizer!r}")
        self.num_keypoints = num_keypoints
        self.loss_weight = loss_weight
        self.loss_normalizer = loss_normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the arguments from ``MODEL.ROI_KEYPOINT_HEAD`` and ``MODEL.ROI_HEADS``.

        Without ``NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS``, the loss is divided by the largest possible number of visible
        keypoints per image.
        """
        node, heads = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        most = node.NUM_KEYPOINTS * heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION
        return {
            "loss_weight": node.LOSS_WEIGHT,
            "num_keypoints": node.NUM_KEYPOINTS,
            "loss_normalizer": "visible" if node.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS else most,
        }

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        """Compute the loss in training; in evaluation, set ``pred_keypoints`` of the Instances and return them.

        Args:
            x: pooled features [R, C, H, W].
            instances: see :func:`keypoint_rcnn_loss` and :func:`keypoint_rcnn_inference`.
        """
        logits = self.layers(x)
        if not self.training:
            keypoint_rcnn_inference(logits, instances)
            return instances
        by_count = self.loss_normalizer == "visible"
        normalizer = None if by_count else len(instances) * float(self.loss_normalizer)
        return {"loss_keypoint": keypoint_rcnn_loss(logits, instances, normalizer) * self.loss_weight}

    def predict_tensors(self, x: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
        """Locate the keypoints of each detection, for :class:`.TensorInference`.

        Args:
            x: pooled features [N * D, C, H, W] or, without a keypoint pooler, the feature maps by name.
            boxes: [N, D, 4].
            classes: [N, D].

        Returns:
            x, y and score of each keypoint, [N, D, K, 3].
        """
        # An accelerator would wait for the sizes of the boxes, unless this is part of a graph.
        waits = boxes.device.type != "cpu" and not is_recording()
        decode = heatmaps_to_keypoints_without_waits if waits else heatmaps_to_keypoints
        points = decode(self.layers(x), boxes.flatten(0, 1))
        return points[:, :, [0, 1, 3]].unflatten(0, classes.shape)  # without the logit

    def loss_tensors(self, x: Tensor, sample: Tensors, keypoints: Tensor) -> Tensors:
        """Compute the loss of a fixed number of proposals per image; see :mod:`.fixed_shapes`.

        Args:
            x: pooled features [N * k, C, H, W].
            sample: the proposals, see :func:`.match_and_sample_padded`.
            keypoints: ground truth [N, number of objects, K, 3]; [..., 1, 3] if no image has any.

        Returns:
            ``loss_keypoint``, and with a slash in their names figures for the log.
        """
        logits = self.layers(x)
        matched = keypoints.take_along_dim(sample["matches"][..., None, None], dim=1).flatten(0, 1)
        matched = matched.expand(-1, logits.shape[1], -1)
        cells, inside = Keypoints(matched).to_heatmap(sample["boxes"].flatten(0, 1), logits.shape[-1])
        counted = (inside > 0) & sample["foreground"].flatten()[:, None]  # [N * k, K]
        each = F.cross_entropy(logits.flatten(0, 1).flatten(1), cells.flatten(), reduction="none")
        total, count = torch.where(counted.flatten(), each, 0.0).sum(), counted.sum().clamp(min=1)
        by_count = self.loss_normalizer == "visible"
        loss = total / (count if by_count else keypoints.shape[0] * float(self.loss_normalizer))
        return {
            "loss_keypoint": loss * self.loss_weight,
            "keypoint_head/num_fg_samples": counted.any(dim=1).sum() / keypoints.shape[0],
        }

    def layers(self, x: Tensor) -> Tensor:
        """Compute logits [R, K, S, S] from pooled features [R, C, H, W]."""
        raise NotImplementedError(f"{type(self).__name__} must define layers(x), which predicts heat maps")


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class KRCNNConvDeconvUpsampleHead(BaseKeypointRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3x3 convolutions, then a transposed convolution and bilinear upsampling, each doubling the resolution.

    Args:
        input_shape: channels of the pooled features.
        num_keypoints: K.
        conv_dims: output channels of the convolutions.
        kwargs: arguments of :class:`BaseKeypointRCNNHead`.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, num_keypoints: int, conv_dims: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(num_keypoints=num_keypoints, **kwargs)
        self.up_scale = 2.0
        width = input_shape.channels or 0
        for i, dim in enumerate(conv_dims, start=1):
            self.add_module(f"conv_fcn{i}", Conv2d(width, dim, kernel_size=3, padding=1))
            self.add_module(f"conv_fcn_relu{i}", nn.ReLU())
            width = dim
        self.score_lowres = ConvTranspose2d(width, num_keypoints, kernel_size=4, stride=2, padding=1)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:  # also for the transposed convolution, as in Caffe2
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the arguments from ``MODEL.ROI_KEYPOINT_HEAD``."""
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "conv_dims": cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS,
        }

    def layers(self, x: Tensor) -> Tensor:
        """Compute logits [R, K, 4 * H, 4 * W] from pooled features [R, C, H, W]."""
        x = inference_layout(x)
        for layer in self:
            x = layer(x)
        return interpolate(x, scale_factor=self.up_scale, mode="bilinear", align_corners=False)
