"""Deformable convolution, with and without modulation, over ``torchvision.ops.deform_conv2d``."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from detectron2.utils.develop import create_dummy_class, create_dummy_func
from detectron2.utils.errors import BadValue

from ._torchvision import deform_conv2d

__all__ = ["DeformConv", "ModulatedDeformConv", "create_dummy_class", "create_dummy_func"]

_Size = int | tuple[int, int]


class _DeformableConv(nn.Module):
    """Base of both layers: geometry, weight, and the steps after the convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size,
        padding: _Size,
        dilation: _Size,
        groups: int,
        deformable_groups: int,
        norm: nn.Module | None,
        activation: Callable[[Tensor], Tensor] | None,
    ) -> None:
        super().__init__()
        for name, count in (("groups", groups), ("deformable_groups", deformable_groups)):
            if in_channels % count:
                raise BadValue(f"in_channels={in_channels} must be divisible by {name}={count}")
        if out_channels % groups:
            raise BadValue(f"out_channels={out_channels} must be divisible by groups={groups}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.deformable_groups = deformable_groups
        self.norm = norm
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))

    def _convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
        taps = self.deformable_groups * math.prod(self.kernel_size)
        self._check("offset", offset, 2 * taps, x)
        if mask is not None:
            self._check("mask", mask, taps, x)
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        # On large maps, half precision would round sampling positions to whole pixels.
        wide = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            y = deform_conv2d(
                x.to(wide),
                offset.to(wide),
                self.weight.to(wide),
                None if bias is None else bias.to(wide),
                self.stride,
                self.padding,
                self.dilation,
                None if mask is None else mask.to(wide),
            ).to(dtype)
        for step in (self.norm, self.activation):
            if step is not None:
                y = step(y)
        return y

    def _check(self, name: str, given: Tensor, channels: int, x: Tensor) -> None:
        steps = (_pair(v) for v in (self.stride, self.padding, self.dilation))
        sizes = zip(x.shape[2:], self.kernel_size, *steps)
        out = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in sizes]
        want = (x.shape[0], channels, *out)
        if tuple(given.shape) != want:
            raise BadValue(
                f"{name} must be {want} for an input of {tuple(x.shape)}, got {tuple(given.shape)}"
            )

    def extra_repr(self) -> str:
        """Return the geometry, for ``repr``."""
        names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"]
        names += ["groups", "deformable_groups"]
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class DeformConv(_DeformableConv):
    """Convolution with sampling offsets.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel_size, stride, padding, dilation, groups: as in ``torch.nn.Conv2d``.
        deformable_groups: groups of input channels with separate offsets.
        bias: must be False: this layer has none.
        norm: applied to the convolution's output.
        activation: applied last.

    Reference: Deformable Convolutional Networks, https://arxiv.org/abs/1703.06211
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if bias:
            raise BadValue("DeformConv has no bias; pass bias=False, or use ModulatedDeformConv")
        sizes = in_channels, out_channels, kernel_size, stride, padding, dilation, groups, deformable_groups
        super().__init__(*sizes, norm, activation)
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)
        self.bias = None
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: [N, C, H, W].
            offset: [N, 2 * deformable_groups * kh * kw, H', W']; (dy, dx) in pixels for each kernel tap, row by row.

        Returns:
            [N, C', H', W'].
        """
        return self._convolve(x, offset, None, None)

    def extra_repr(self) -> str:
        """Return the geometry, for ``repr``."""
        return super().extra_repr() + ", bias=False"


class ModulatedDeformConv(_DeformableConv):
    """Deformable convolution with a weight for each sample ("v2").

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel_size, stride, padding, dilation, groups: as in ``torch.nn.Conv2d``.
        deformable_groups: groups of input channels with separate offsets and masks.
        bias: whether the convolution has a bias.
        norm: applied to the convolution's output.
        activation: applied last.

    Reference: Deformable ConvNets v2, https://arxiv.org/abs/1811.11168
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = True,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        sizes = in_channels, out_channels, kernel_size, stride, padding, dilation, groups, deformable_groups
        super().__init__(*sizes, norm, activation)
        self.with_bias = bias
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: [N, C, H, W].
            offset: [N, 2 * deformable_groups * kh * kw, H', W']; (dy, dx) in pixels for each kernel tap, row by row.
            mask: [N, deformable_groups * kh * kw, H', W'] weight of each kernel tap, usually in [0, 1].

        Returns:
            [N, C', H', W'].
        """
        return self._convolve(x, offset, mask, self.bias)

    def extra_repr(self) -> str:
        """Return the geometry, for ``repr``."""
        return super().extra_repr() + f", bias={self.with_bias}"
