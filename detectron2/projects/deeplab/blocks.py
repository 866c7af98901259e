"""Convolutions of the heads of DeepLab and Panoptic-DeepLab."""

from collections.abc import Callable

from torch import nn
from torch.nn import functional as F

from detectron2.layers import Conv2d, DepthwiseSeparableConv2d, get_norm
from detectron2.layers.weight_init import c2_xavier_fill

__all__ = ["Norm", "conv_norm_relu", "predictor", "two_convs"]

Norm = str | Callable[[int], nn.Module]
"""A name for :func:`detectron2.layers.get_norm` (``""`` = none), or a function of the number of channels."""


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int, norm: Norm) -> Conv2d:
    """Build a convolution that keeps the size, its norm and a ReLU; without a norm it has a bias."""
    conv = _unfilled(in_channels, out_channels, kernel_size, norm)
    c2_xavier_fill(conv)
    return conv


def _unfilled(in_channels: int, out_channels: int, kernel_size: int, norm: Norm) -> Conv2d:
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )


def two_convs(
    in_channels: int, mid_channels: int, out_channels: int, norm: Norm, separable: bool = False
) -> nn.Module:
    """Build a layer with a receptive field of 5x5 pixels.

    Args:
        in_channels: channels of the input.
        mid_channels: channels between the two convolutions.
        out_channels: channels of the output.
        norm: norm of the convolutions.
        separable: use one separable 5x5 convolution instead of two 3x3 ones.
    """
    if separable:
        return DepthwiseSeparableConv2d(
            in_channels,
            out_channels,
            kernel_size=5,
            padding=2,
            norm1=norm,
            activation1=F.relu,
            norm2=norm,
            activation2=F.relu,
        )
    convs = (
        _unfilled(in_channels, mid_channels, 3, norm),
        _unfilled(mid_channels, out_channels, 3, norm),
    )
    for conv in convs:
        c2_xavier_fill(conv)
    return nn.Sequential(*convs)


def predictor(in_channels: int, out_channels: int) -> Conv2d:
    """Build the last layer of a head: a 1x1 convolution that starts near 0."""
    layer = Conv2d(in_channels, out_channels, kernel_size=1)
    nn.init.normal_(layer.weight, std=0.001)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
