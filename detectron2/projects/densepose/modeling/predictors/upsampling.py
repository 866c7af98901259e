"""Base of the predictors."""

import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ConvTranspose2d

__all__ = ["UpsamplingPredictor", "upsampling_layer"]


def upsampling_layer(cfg: CfgNode, input_channels: int, channels: int) -> ConvTranspose2d:
    """Build a transposed convolution that doubles the resolution; predictors initialise it with their other layers.

    Args:
        cfg: the whole config; reads ``MODEL.ROI_DENSEPOSE_HEAD.DECONV_KERNEL``, an even number.
        input_channels: channels of its input.
        channels: channels of its output.
    """
    kernel = cfg.MODEL.ROI_DENSEPOSE_HEAD.DECONV_KERNEL
    return ConvTranspose2d(input_channels, channels, kernel, stride=2, padding=kernel // 2 - 1)


class UpsamplingPredictor(nn.Module):
    """Base of predictors whose layers double the resolution and whose outputs are upsampled further.

    Args:
        cfg: the whole config; reads ``MODEL.ROI_DENSEPOSE_HEAD.UP_SCALE``.
        input_channels: channels of the features.
    """

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__()
        self.scale_factor = cfg.MODEL.ROI_DENSEPOSE_HEAD.UP_SCALE

    def interp2d(self, tensor_nchw: Tensor) -> Tensor:
        """Upsample maps bilinearly.

        Args:
            tensor_nchw: [N, C, H, W].
        """
        return F.interpolate(
            tensor_nchw, scale_factor=self.scale_factor, mode="bilinear", align_corners=False
        )
