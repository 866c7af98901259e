"""A head of plain convolutions."""

import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import Conv2d

from ..registries import ROI_DENSEPOSE_HEAD_REGISTRY
from ..utils import initialize_module_params

__all__ = ["DensePoseV1ConvXHead"]


@ROI_DENSEPOSE_HEAD_REGISTRY.register()
class DensePoseV1ConvXHead(nn.Module):
    """Convolutions of the same width, each followed by a ReLU.

    Args:
        cfg: the whole config; reads ``CONV_HEAD_DIM``, ``CONV_HEAD_KERNEL`` and ``NUM_STACKED_CONVS`` of
            ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_channels: channels of the features.
    """

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__()
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD
        kernel = node.CONV_HEAD_KERNEL
        self.n_stacked_convs = node.NUM_STACKED_CONVS
        self.n_out_channels = input_channels
        for i in range(1, self.n_stacked_convs + 1):
            layer = Conv2d(
                self.n_out_channels, node.CONV_HEAD_DIM, kernel, padding=kernel // 2, activation=F.relu
            )
            self.add_module(f"body_conv_fcn{i}", layer)
            self.n_out_channels = node.CONV_HEAD_DIM
        initialize_module_params(self)

    def forward(self, features: Tensor) -> Tensor:
        """Process the features of N instances.

        Args:
            features: [N, C, H, W].

        Returns:
            [N, n_out_channels, H, W].
        """
        for layer in self.children():
            features = layer(features)
        return features
