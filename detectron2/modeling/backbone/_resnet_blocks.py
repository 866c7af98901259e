"""Stems and residual blocks of ResNet and its relatives."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.layers import (
    CNNBlockBase,
    Conv2d,
    DeformConv,
    FrozenBatchNorm2d,
    ModulatedDeformConv,
    get_norm,
)
from detectron2.layers.weight_init import c2_msra_fill

Norm = str | Callable[[int], nn.Module]
"""A name for :func:`detectron2.layers.get_norm` (``""`` = none), or a function from the number of channels to a norm."""


class FoldingConv2d(Conv2d):
    """A ``Conv2d`` that applies a frozen batch norm through its weight: ``conv(x, weight * scale, shift)``.

    Result and gradients are the same, because scale and shift do not depend on the data, but the norm needs no pass
    over the features and, in training, stores no copy of them. The weight is scaled in each call, so parameters keep
    their names and values. A norm with hooks is called as a module.
    """

    def _get_name(self) -> str:
        return "Conv2d"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, C, H, W] to [N, C', H', W'], normalised and activated."""
        norm = self.norm
        if type(norm) is not FrozenBatchNorm2d or norm._forward_hooks or norm._forward_pre_hooks:
            return super().forward(x)
        scale, shift = (v.to(self.weight.dtype) for v in norm.affine())
        bias = shift if self.bias is None else torch.addcmul(shift, self.bias, scale)
        x = self._conv_forward(x, self.weight * scale[:, None, None, None], bias)
        return x if self.activation is None else self.activation(x)


def conv_norm(c_in: int, c_out: int, kernel: int, norm: Norm, **kwargs: Any) -> Conv2d:
    """Build a convolution without bias, followed by a norm; padding keeps the size at stride 1."""
    padding = kwargs.get("dilation", 1) * (kernel // 2)
    return FoldingConv2d(
        c_in, c_out, kernel, padding=padding, bias=False, norm=get_norm(norm, c_out), **kwargs
    )


class ResidualBlock(CNNBlockBase):
    """``relu(branch(x) + shortcut(x))``; subclasses define the branch.

    The shortcut is a strided 1x1 convolution if input and output channels differ, else the identity.
    """

    shortcut: Conv2d | None

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
        super().__init__(in_channels, out_channels, stride)
        if in_channels != out_channels:
            self.shortcut = conv_norm(in_channels, out_channels, 1, norm, stride=stride)
        else:
            self.shortcut = None

    def _fill(self, *layers: nn.Module) -> None:
        """Initialise the weights of the branch, then of the shortcut."""
        for layer in layers:
            c2_msra_fill(layer)
        if self.shortcut is not None:
            c2_msra_fill(self.shortcut)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        return F.relu_(self.branch(x) + skip)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions, as in ResNet-18 and ResNet-34.

    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, figure 5 left.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: stride of the first convolution (and of the shortcut).
        norm: normalisation after each convolution, see :func:`detectron2.layers.get_norm`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm = "BN") -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        self.conv1 = conv_norm(in_channels, out_channels, 3, norm, stride=stride)
        self.conv2 = conv_norm(out_channels, out_channels, 3, norm)
        self._fill(self.conv1, self.conv2)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.relu_(self.conv1(x)))


class BottleneckBlock(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions, as in ResNet-50 and deeper, and in ResNeXt.

    Sources: arXiv 1512.03385, figure 5 right; grouped convolution: Xie et al., arXiv 1611.05431.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bottleneck_channels: channels of the 3x3 convolution.
        stride: stride of the block.
        num_groups: groups of the 3x3 convolution (ResNeXt).
        norm: normalisation after each convolution, see :func:`detectron2.layers.get_norm`.
        stride_in_1x1: apply the stride in the first 1x1 convolution (models converted from Caffe), not in the 3x3.
        dilation: dilation of the 3x3 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        mid = bottleneck_channels
        self.conv1 = conv_norm(in_channels, mid, 1, norm, stride=first)
        self.conv2 = conv_norm(mid, mid, 3, norm, stride=second, groups=num_groups, dilation=dilation)
        self.conv3 = conv_norm(mid, out_channels, 1, norm)
        self._fill(self.conv1, self.conv2, self.conv3)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x)))))


class DeformBottleneckBlock(ResidualBlock):
    """A :class:`BottleneckBlock` whose 3x3 convolution is deformable; its offsets start at zero.

    Sources: Dai et al., arXiv 1703.06211; modulated: Zhu et al., arXiv 1811.11168.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bottleneck_channels: channels of the deformable convolution.
        stride: stride of the block.
        num_groups: groups of the deformable convolution.
        norm: normalisation after each convolution.
        stride_in_1x1: apply the stride in the first 1x1 convolution, not in the 3x3.
        dilation: dilation of the deformable convolution.
        deform_modulated: also predict a mask in (0, 1) (version 2).
        deform_num_groups: number of groups of channels that share offsets.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
        deform_modulated: bool = False,
        deform_num_groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        self.deform_modulated = deform_modulated
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        mid = bottleneck_channels
        # Each of the 9 taps has an offset in y and x, and a mask value if modulated.
        per_tap = 3 if deform_modulated else 2
        kind = ModulatedDeformConv if deform_modulated else DeformConv
        place: dict[str, Any] = dict(kernel_size=3, stride=second, padding=dilation, dilation=dilation)
        self.conv1 = conv_norm(in_channels, mid, 1, norm, stride=first)
        self.conv2_offset = Conv2d(mid, 9 * per_tap * deform_num_groups, **place)
        self.conv2 = kind(
            mid,
            mid,
            **place,
            bias=False,
            groups=num_groups,
            deformable_groups=deform_num_groups,
            norm=get_norm(norm, mid),
        )
        self.conv3 = conv_norm(mid, out_channels, 1, norm)
        self._fill(self.conv1, self.conv2, self.conv3)
        nn.init.zeros_(self.conv2_offset.weight)
        assert self.conv2_offset.bias is not None
        nn.init.zeros_(self.conv2_offset.bias)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(self.conv1(x))
        where = self.conv2_offset(x)
        if self.deform_modulated:
            taps = where.shape[1] // 3  # (N, 3 * taps, H, W): 2 * taps offsets, then mask logits
            x = self.conv2(x, where[:, : 2 * taps], where[:, 2 * taps :].sigmoid())
        else:
            x = self.conv2(x, where)
        return self.conv3(F.relu_(x))


class BasicStem(CNNBlockBase):
    """The standard first layers: 7x7 convolution, norm, relu, 3x3 max pooling; total stride 4.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the output.
        norm: normalisation after the convolution.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: Norm = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.in_channels = in_channels
        self.conv1 = conv_norm(in_channels, out_channels, 7, norm, stride=2)
        c2_msra_fill(self.conv1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)
