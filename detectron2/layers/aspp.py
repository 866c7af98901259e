"""Atrous spatial pyramid pooling."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.utils.errors import BadValue

from .batch_norm import get_norm
from .blocks import DepthwiseSeparableConv2d
from .weight_init import c2_xavier_fill
from .wrappers import Conv2d

__all__ = ["ASPP"]

_Norm = str | Callable[[int], nn.Module]
_Act = Callable[[Tensor], Tensor]


def _own(activation: _Act | None) -> _Act | None:
    """Copy the activation if it is a module, which may have state."""
    return deepcopy(activation) if isinstance(activation, nn.Module) else activation


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: parallel branches with different receptive fields, combined by a convolution.

    The five branches are a 1x1 convolution, three dilated 3x3 convolutions, and an average over the image (or windows
    of it).

    Args:
        in_channels: input channels.
        out_channels: channels of each branch and of the output.
        dilations: exactly three dilations.
        norm: norm of every convolution, as in ``get_norm``; "" for none (convolutions then have a bias).
        activation: activation after every convolution.
        pool_kernel_size: (height, width) of the averaging windows, which must divide the input; None: whole input.
        dropout: probability of dropping output values in training.
        use_depthwise_separable_conv: use separable convolutions in the dilated branches.

    Reference: Rethinking Atrous Convolution for Semantic Image Segmentation, https://arxiv.org/abs/1706.05587
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilations: list[int],
        *,
        norm: _Norm,
        activation: _Act,
        pool_kernel_size: tuple[int, int] | None = None,
        dropout: float = 0.0,
        use_depthwise_separable_conv: bool = False,
    ) -> None:
        super().__init__()
        if len(dilations) != 3:
            raise BadValue(f"ASPP takes 3 dilations, got {len(dilations)}: {list(dilations)}")
        self.pool_kernel_size = pool_kernel_size
        self.dropout = dropout

        def conv(inputs: int, kernel: int, dilation: int = 1, normed: bool = True) -> Conv2d:
            own_norm = norm if normed else ""
            layer = Conv2d(
                inputs,
                out_channels,
                kernel,
                padding=dilation * (kernel // 2),
                dilation=dilation,
                bias=not own_norm,
                norm=get_norm(own_norm, out_channels),
                activation=_own(activation),
            )
            c2_xavier_fill(layer)
            return layer

        def dilated(dilation: int) -> nn.Module:
            if not use_depthwise_separable_conv:
                return conv(in_channels, 3, dilation)
            same: dict[str, Any] = {
                "norm1": norm,
                "norm2": norm,
                "activation1": _own(activation),
                "activation2": _own(activation),
            }
            return DepthwiseSeparableConv2d(
                in_channels, out_channels, 3, padding=dilation, dilation=dilation, **same
            )

        pool = (
            nn.AdaptiveAvgPool2d(1) if pool_kernel_size is None else nn.AvgPool2d(pool_kernel_size, stride=1)
        )
        branches = [conv(in_channels, 1), *(dilated(d) for d in dilations)]
        # No norm after pooling: with one pixel per image, a batch norm has no variance to divide by.
        branches.append(nn.Sequential(pool, conv(in_channels, 1, normed=False)))
        self.convs = nn.ModuleList(branches)
        self.project = conv(len(branches) * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C_in, H, W] to [N, C_out, H, W]."""
        size = x.shape[-2:]
        if self.pool_kernel_size is not None and any(s % k for s, k in zip(size, self.pool_kernel_size)):
            raise BadValue(
                f"pool_kernel_size={self.pool_kernel_size} must divide the input size {tuple(size)}"
            )
        views = [branch(x) for branch in self.convs]
        views[-1] = F.interpolate(views[-1], size=size, mode="bilinear", align_corners=False)
        mixed = self.project(torch.cat(views, dim=1))
        return F.dropout(mixed, self.dropout, training=self.training) if self.dropout > 0 else mixed
