"""Heads that predict classes of points, and their loss.

R boxes (or images), K classes, P points per box, C channels.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, cat
from detectron2.layers.weight_init import c2_msra_fill
from detectron2.modeling.roi_heads.mask_head import masks_of_classes
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

__all__ = [
    "POINT_HEAD_REGISTRY",
    "ImplicitPointHead",
    "StandardPointHead",
    "build_point_head",
    "roi_mask_point_loss",
]

POINT_HEAD_REGISTRY = Registry("POINT_HEAD")
POINT_HEAD_REGISTRY.__doc__ = """
Heads that predict classes of points. An entry is called with ``(cfg, input_shape)``; ``input_shape.channels`` is the
number of features of a point.
"""

_ENCODING_DIM = 256
_IGNORED = -1


def roi_mask_point_loss(mask_logits: Tensor, instances: Sequence[Instances], point_labels: Tensor) -> Tensor:
    """Binary cross-entropy of points, averaged over all of them; ignored points count as 0.

    Args:
        mask_logits: [R, K, P], or [R, 1, P] if classes share a mask.
        instances: Instances with ``gt_classes``, R in total.
        point_labels: [R, P] labels in [0, 1], or -1 for points to ignore.

    Returns:
        A scalar; for R = 0 it is 0 and attached to the predictions.
    """
    if not mask_logits.shape[0]:
        return mask_logits.sum() * 0.0
    classes = cat([x.gt_classes for x in instances]).to(torch.int64)
    logits = masks_of_classes(mask_logits, classes)  # [R, P]
    counted = point_labels != _IGNORED
    _log_accuracy(logits.detach(), point_labels, counted)
    return F.binary_cross_entropy_with_logits(
        logits, point_labels.to(logits.dtype), weight=counted.to(logits.dtype)
    )


def _log_accuracy(logits: Tensor, labels: Tensor, counted: Tensor) -> None:
    # As in published logs, a point at the edge of a mask (a label below 1) counts as outside.
    right = ((logits > 0) == (labels >= 1)) & counted
    get_event_storage().put_scalar("point/accuracy", right.sum() / counted.sum().clamp(min=1))


@POINT_HEAD_REGISTRY.register()
class StandardPointHead(nn.Module):
    """A multi-layer perceptron with shared weights over the fine features and coarse predictions of points.

    Args:
        cfg: config with ``MODEL.POINT_HEAD``.
        input_shape: ``channels`` of the fine features.

    Reference: section 3.3 of PointRend, https://arxiv.org/abs/1912.08193
    """

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        node = cfg.MODEL.POINT_HEAD
        num_classes = node.NUM_CLASSES
        self.coarse_pred_each_layer = node.COARSE_PRED_EACH_LAYER
        repeated = num_classes if self.coarse_pred_each_layer else 0
        width = (input_shape.channels or 0) + num_classes
        self.fc_layers: list[nn.Conv1d] = []
        for i in range(1, node.NUM_FC + 1):
            layer = nn.Conv1d(width, node.FC_DIM, kernel_size=1)
            self.add_module(f"fc{i}", layer)
            self.fc_layers.append(layer)
            width = node.FC_DIM + repeated
        self.predictor = nn.Conv1d(width, 1 if node.CLS_AGNOSTIC_MASK else num_classes, kernel_size=1)
        for layer in self.fc_layers:
            c2_msra_fill(layer)
        nn.init.normal_(self.predictor.weight, std=0.001)
        if self.predictor.bias is not None:
            nn.init.zeros_(self.predictor.bias)

    def forward(self, fine_grained_features: Tensor, coarse_features: Tensor) -> Tensor:
        """Predict classes of points.

        Args:
            fine_grained_features: [R, C, P].
            coarse_features: [R, K, P] coarse class logits.

        Returns:
            [R, K or 1, P] logits.
        """
        x = torch.cat([fine_grained_features, coarse_features], dim=1)
        for layer in self.fc_layers:
            x = layer(x).relu()
            if self.coarse_pred_each_layer:
                x = torch.cat([x, coarse_features], dim=1)
        return self.predictor(x)


@POINT_HEAD_REGISTRY.register()
class ImplicitPointHead(nn.Module):
    """A multi-layer perceptron whose weights are predicted per box: a mask as a function of position.

    Its input is random Fourier features of the position in the box, and fine features of the point.

    Args:
        cfg: config with ``MODEL.POINT_HEAD`` and ``MODEL.IMPLICIT_POINTREND``.
        input_shape: ``channels`` of the fine features.

    Attributes:
        num_params: number of weights and biases per box.

    Raises:
        ValueError: the head would get neither features nor positions.

    References: section 4 of Pointly-Supervised Instance Segmentation, https://arxiv.org/abs/2104.06404; Fourier
    Features Let Networks Learn High Frequency Functions, https://arxiv.org/abs/2006.10739
    """

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        node = cfg.MODEL.POINT_HEAD
        self.image_feature_enabled = cfg.MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED
        self.positional_encoding_enabled = cfg.MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED
        if not (self.image_feature_enabled or self.positional_encoding_enabled):
            raise ValueError(
                "an implicit point head needs an input: set MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED "
                "or POS_ENC_ENABLED"
            )
        width = (input_shape.channels or 0) if self.image_feature_enabled else 0
        if self.positional_encoding_enabled:
            width += _ENCODING_DIM
            self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, _ENCODING_DIM // 2))
        num_classes = 1 if node.CLS_AGNOSTIC_MASK else node.NUM_CLASSES
        widths = [width, *[node.FC_DIM] * node.NUM_FC, num_classes]
        self._layers = [(out, into) for into, out in pairwise(widths)]
        self._sizes = [out * into for out, into in self._layers] + widths[1:]
        self.num_params = sum(self._sizes)

    def forward(self, fine_grained_features: Tensor, point_coords: Tensor, parameters: Tensor) -> Tensor:
        """Predict classes of points.

        Args:
            fine_grained_features: [R, C, P].
            point_coords: [R, P, 2] coordinates in [0, 1] of each box.
            parameters: [R, num_params], the weights of all layers [out, in] and then the biases of all layers.

        Returns:
            [R, K or 1, P] logits.
        """
        inputs = []
        if self.positional_encoding_enabled:
            inputs.append(self._encode(point_coords).to(parameters.dtype))
        if self.image_feature_enabled:
            inputs.append(fine_grained_features.to(parameters.dtype))
        x = torch.cat(inputs, dim=1)
        parts = parameters.split(self._sizes, dim=1)
        depth = len(self._layers)
        for i, (shape, weight, bias) in enumerate(zip(self._layers, parts[:depth], parts[depth:])):
            x = torch.baddbmm(bias[:, :, None], weight.unflatten(1, shape), x if i == 0 else x.relu())
        return x

    def _encode(self, coords: Tensor) -> Tensor:
        """Return Fourier features [R, 256, P] of positions [R, P, 2] in [0, 1]."""
        matrix: Any = self.positional_encoding_gaussian_matrix
        phases = 2 * math.pi * ((2 * coords - 1).to(matrix.dtype) @ matrix)
        return torch.cat([phases.sin(), phases.cos()], dim=2).transpose(1, 2)


def build_point_head(cfg: CfgNode, input_channels: ShapeSpec) -> Any:
    """Build the registered head named by ``MODEL.POINT_HEAD.NAME``.

    Args:
        cfg: config with ``MODEL.POINT_HEAD``.
        input_channels: ``channels`` of the fine features.
    """
    return POINT_HEAD_REGISTRY.get(cfg.MODEL.POINT_HEAD.NAME)(cfg, input_channels)
