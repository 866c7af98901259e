"""Heads that compute features for box predictions from pooled features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.layers.weight_init import c2_msra_fill, c2_xavier_fill
from detectron2.utils.errors import BadValue
from detectron2.utils.registry import Registry

__all__ = ["ROI_BOX_HEAD_REGISTRY", "FastRCNNConvFCHead", "build_box_head"]

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")
ROI_BOX_HEAD_REGISTRY.__doc__ = """
Heads that compute features for box predictions from pooled features [R, C, H, W]. An entry is called with
``(cfg, input_shape)``, where ``input_shape`` is the ShapeSpec of the pooled features; the head has an
``output_shape``.
"""


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """3x3 convolutions, then fully connected layers, each followed by a ReLU.

    Its children are named ``conv1``, ``fc1``, ``fc_relu1`` and so on, with ``flatten`` before the first fc.

    Args:
        input_shape: channels, height and width of the pooled features.
        conv_dims: output channels of each convolution.
        fc_dims: output size of each fully connected layer.
        conv_norm: norm of the convolutions, see :func:`detectron2.layers.get_norm`.

    Raises:
        ValueError: if there is no layer.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: Sequence[int],
        fc_dims: Sequence[int],
        conv_norm: str = "",
    ) -> None:
        super().__init__()
        if len(conv_dims) + len(fc_dims) == 0:
            raise BadValue("a box head needs at least one entry in conv_dims or fc_dims, got none")
        channels, height, width = input_shape.channels or 0, input_shape.height, input_shape.width
        self._output_size: tuple[int, ...] = (channels, height or 1, width or 1)
        self.conv_norm_relus: list[nn.Module] = []
        for i, dim in enumerate(conv_dims, start=1):
            conv = Conv2d(
                self._output_size[0],
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=nn.ReLU(),
            )
            self.add_module(f"conv{i}", conv)
            self.conv_norm_relus.append(conv)
            self._output_size = (dim, *self._output_size[1:])
        self.fcs: list[nn.Module] = []
        for i, dim in enumerate(fc_dims, start=1):
            if i == 1:
                self.add_module("flatten", nn.Flatten())
            fc = nn.Linear(int(np.prod(self._output_size)), dim)
            self.add_module(f"fc{i}", fc)
            self.add_module(f"fc_relu{i}", nn.ReLU())
            self.fcs.append(fc)
            self._output_size = (dim,)
        for layer in self.conv_norm_relus:
            c2_msra_fill(layer)
        for layer in self.fcs:
            c2_xavier_fill(layer)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the arguments from ``MODEL.ROI_BOX_HEAD``."""
        node = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [node.CONV_DIM] * node.NUM_CONV,
            "fc_dims": [node.FC_DIM] * node.NUM_FC,
            "conv_norm": node.NORM,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Map [R, C, H, W] to [R, fc_dims[-1]], or to [R, conv_dims[-1], H, W] without fully connected layers."""
        for layer in self:
            x = layer(x)
        return x

    @property
    def output_shape(self) -> ShapeSpec:
        """Channels of the result and, if there are no fully connected layers, its height and width."""
        if len(self._output_size) == 1:
            return ShapeSpec(channels=self._output_size[0])
        channels, height, width = self._output_size
        return ShapeSpec(channels=channels, height=height, width=width)


def build_box_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the registered head that ``MODEL.ROI_BOX_HEAD.NAME`` names."""
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)
