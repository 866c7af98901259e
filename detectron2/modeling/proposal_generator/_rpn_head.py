"""Heads of region proposal networks: objectness and box deltas of every anchor from feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.utils.errors import BadValue

from ..anchor_generator import build_anchor_generator
from ._registry import RPN_HEAD_REGISTRY

__all__ = ["StandardRPNHead", "build_rpn_head"]


def build_rpn_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build the registered head that ``MODEL.RPN.HEAD_NAME`` names."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions, then one 1x1 convolution for objectness and one for deltas; shared by all levels.

    Args:
        in_channels: channels of every feature map.
        num_anchors: anchors per cell.
        box_dim: numbers per box, 4 or (rotated) 5.
        conv_dims: output channels of each 3x3 convolution; -1 = its input channels.
    """

    @configurable
    def __init__(
        self, *, in_channels: int, num_anchors: int, box_dim: int = 4, conv_dims: Sequence[int] = (-1,)
    ) -> None:
        super().__init__()
        widths: list[int] = []
        for dim in conv_dims:
            widths.append((widths[-1] if widths else in_channels) if dim == -1 else int(dim))
        if not widths or min(widths) <= 0:
            raise BadValue(f"conv_dims must be one or more positive numbers or -1, got {list(conv_dims)}")
        layers: list[nn.Conv2d] = [
            Conv2d(a, b, kernel_size=3, padding=1, activation=nn.ReLU())
            for a, b in zip([in_channels, *widths], widths)
        ]
        if len(layers) == 1:
            self.conv: nn.Module = layers[0]
        else:
            self.conv = nn.Sequential()
            for i, layer in enumerate(layers):
                self.conv.add_module(f"conv{i}", layer)
        self.objectness_logits = nn.Conv2d(widths[-1], num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(widths[-1], num_anchors * box_dim, kernel_size=1)
        for layer in (*layers, self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from ``MODEL.RPN.CONV_DIMS`` and ``MODEL.ANCHOR_GENERATOR``."""
        channels = {s.channels for s in input_shape}
        if len(channels) != 1:
            raise BadValue(
                f"all feature maps of the RPN must have the same number of channels, got {channels}"
            )
        generator = build_anchor_generator(cfg, input_shape)
        counts = set(generator.num_anchors)
        if len(counts) != 1:
            raise BadValue(
                f"all feature maps of the RPN must have the same number of anchors per cell, got {counts}"
            )
        return {
            "in_channels": channels.pop(),
            "num_anchors": counts.pop(),
            "box_dim": generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute logits [N, num_anchors, H, W] and deltas [N, num_anchors * box_dim, H, W] for each map [N, C, H, W]."""
        hidden = [self.conv(f) for f in features]
        return [self.objectness_logits(h) for h in hidden], [self.anchor_deltas(h) for h in hidden]
