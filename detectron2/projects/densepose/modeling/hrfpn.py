"""A feature pyramid over all resolutions of HRNet."""

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.layers.weight_init import c2_xavier_fill
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

from .hrnet import build_pose_hrnet_backbone

__all__ = ["HRFPN", "build_hrfpn_backbone"]


class HRFPN(Backbone):
    """Upsample all maps of a network to its highest resolution, and build a pyramid from them.

    The features ``p1``, ``p2``, ... have strides 4, 8, ... Maps are cropped at the right and bottom, so that each is
    exactly twice as large as the next.

    Args:
        bottom_up: network whose first map has stride 4, and each further map twice the stride of the previous one.
        in_features: names of its maps, the largest first.
        n_out_features: levels of the pyramid.
        in_channels: channels of the maps.
        out_channels: channels of each level.
        pooling: unused; convolutions compute the levels.
        share_conv: use one last convolution for all levels.

    Reference: Deep High-Resolution Representation Learning for Visual Recognition, https://arxiv.org/abs/1908.07919
    """

    def __init__(
        self,
        bottom_up: nn.Module,
        in_features: list[str],
        n_out_features: int,
        in_channels: list[int],
        out_channels: int,
        pooling: str = "AVG",
        share_conv: bool = False,
    ) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.in_features = in_features
        self.share_conv = share_conv
        if share_conv:
            self.fpn_conv: nn.Module = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        else:
            self.fpn_conv = nn.ModuleList(
                nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in range(n_out_features)
            )
        self.interp_conv = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(channels, channels, 4, stride=2**i, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for i, channels in enumerate(in_channels)
        )
        self.reduction_pooling_conv = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(sum(in_channels), out_channels, 2**i, stride=2**i),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            )
            for i in range(n_out_features)
        )
        self._out_features = [f"p{i + 1}" for i in range(n_out_features)]
        self._out_feature_channels = {name: out_channels for name in self._out_features}
        self._out_feature_strides = {name: 4 * 2**i for i, name in enumerate(self._out_features)}
        self.init_weights()

    def init_weights(self) -> None:
        """Fill the convolutions of the pyramid."""
        for part in (self.fpn_conv, self.interp_conv, self.reduction_pooling_conv):
            for module in part.modules():
                if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                    c2_xavier_fill(module)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Compute features.

        Args:
            inputs: [N, 3, H, W] images.

        Returns:
            ``p1``, [N, out_channels, about H / 4, about W / 4], and smaller maps.
        """
        maps = self.bottom_up(inputs)
        large = [layer(maps[name]) for layer, name in zip(self.interp_conv, self.in_features)]
        height, width = (min(x.shape[side] for x in large) for side in (2, 3))
        together = torch.cat([x[:, :, :height, :width] for x in large], dim=1)
        levels = [layer(together) for layer in self.reduction_pooling_conv]
        height, width = levels[-1].shape[2:]
        outputs = []
        for i, level in enumerate(levels):
            times = 2 ** (len(levels) - 1 - i)
            conv = self.fpn_conv if self.share_conv else self.fpn_conv[i]  # type: ignore[index]
            outputs.append(conv(level[:, :, : height * times, : width * times]))
        return dict(zip(self._out_features, outputs))


@BACKBONE_REGISTRY.register()
def build_hrfpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> HRFPN:
    """Build an HRNet with its feature pyramid, which has one level per input feature of the heads.

    Args:
        cfg: the whole config; reads ``MODEL.HRNET`` and ``MODEL.ROI_HEADS.IN_FEATURES``.
        input_shape: shape of the images; they must have 3 channels.
    """
    node = cfg.MODEL.HRNET
    bottom_up = build_pose_hrnet_backbone(cfg, input_shape)
    shapes = bottom_up.output_shape()
    return HRFPN(
        bottom_up,
        list(shapes),
        len(cfg.MODEL.ROI_HEADS.IN_FEATURES),
        [shape.channels or 0 for shape in shapes.values()],
        node.HRFPN.OUT_CHANNELS,
    )
