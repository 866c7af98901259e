"""Stems and blocks of RegNet and its wider family."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from detectron2.layers import CNNBlockBase, get_norm

from ._resnet_blocks import Norm

Activation = Callable[[], nn.Module]


def _conv(
    w_in: int, w_out: int, k: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    return nn.Conv2d(w_in, w_out, k, stride=stride, padding=(k - 1) // 2, groups=groups, bias=bias)


def init_layer(module: nn.Module) -> None:
    """Initialise convolutions from a normal distribution scaled by fan-out, linear layers from one of deviation 0.01."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


class _Chain(CNNBlockBase):
    """Applies its layers in the order of their definition."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class ResStem(_Chain):
    """7x7 convolution of stride 2, norm, activation and 3x3 max pooling: stride 4.

    Args:
        w_in: channels of the images.
        w_out: channels of the output.
        norm: see :func:`detectron2.layers.get_norm`.
        activation_class: called without arguments to create the activation.
    """

    def __init__(self, w_in: int, w_out: int, norm: Norm, activation_class: Activation) -> None:
        super().__init__(w_in, w_out, 4)
        self.conv = _conv(w_in, w_out, 7, stride=2)
        self.bn = get_norm(norm, w_out)
        self.af = activation_class()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)


class SimpleStem(_Chain):
    """3x3 convolution of stride 2, norm and activation. Arguments as for :class:`ResStem`."""

    def __init__(self, w_in: int, w_out: int, norm: Norm, activation_class: Activation) -> None:
        super().__init__(w_in, w_out, 2)
        self.conv = _conv(w_in, w_out, 3, stride=2)
        self.bn = get_norm(norm, w_out)
        self.af = activation_class()


class SE(nn.Module):
    """Squeeze and excitation: scales each channel by a factor computed from the channel means (arXiv 1709.01507).

    Args:
        w_in: channels of input and output.
        w_se: hidden channels.
        activation_class: called without arguments to create the activation.
    """

    def __init__(self, w_in: int, w_se: int, activation_class: Activation) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.f_ex = nn.Sequential(
            _conv(w_in, w_se, 1, bias=True), activation_class(), _conv(w_se, w_in, 1, bias=True), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.f_ex(self.avg_pool(x))


class VanillaBlock(_Chain):
    """Two 3x3 convolutions, each with norm and activation; no shortcut.

    Args:
        w_in: channels of the input.
        w_out: channels of the output.
        stride: stride of the first convolution.
        norm: see :func:`detectron2.layers.get_norm`.
        activation_class: called without arguments to create the activations.
        _params: not used.
    """

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        _params: dict[str, Any],
    ) -> None:
        super().__init__(w_in, w_out, stride)
        self.a = _conv(w_in, w_out, 3, stride=stride)
        self.a_bn = get_norm(norm, w_out)
        self.a_af = activation_class()
        self.b = _conv(w_out, w_out, 3)
        self.b_bn = get_norm(norm, w_out)
        self.b_af = activation_class()


class BasicTransform(nn.Sequential):
    """Branch of :class:`ResBasicBlock`: two 3x3 convolutions."""

    def __init__(self, w_in: int, w_out: int, stride: int, norm: Norm, activation_class: Activation) -> None:
        super().__init__()
        self.add_module("a", _conv(w_in, w_out, 3, stride=stride))
        self.add_module("a_bn", get_norm(norm, w_out))
        self.add_module("a_af", activation_class())
        self.add_module("b", _conv(w_out, w_out, 3))
        self.add_module("b_bn", get_norm(norm, w_out))


class BottleneckTransform(nn.Sequential):
    """Branch of :class:`ResBottleneckBlock`: 1x1, grouped 3x3, optional squeeze and excitation, 1x1."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        params: dict[str, Any],
    ) -> None:
        super().__init__()
        width = round(w_out * params["bot_mul"])
        self.add_module("a", _conv(w_in, width, 1))
        self.add_module("a_bn", get_norm(norm, width))
        self.add_module("a_af", activation_class())
        self.add_module("b", _conv(width, width, 3, stride=stride, groups=width // params["group_w"]))
        self.add_module("b_bn", get_norm(norm, width))
        self.add_module("b_af", activation_class())
        if params["se_r"]:
            self.add_module("se", SE(width, round(w_in * params["se_r"]), activation_class))
        self.add_module("c", _conv(width, w_out, 1))
        self.add_module("c_bn", get_norm(norm, w_out))


class _ResBlock(CNNBlockBase):
    """``activation(shortcut + branch)``; the shortcut is a convolution if the shape changes, else the identity."""

    f: nn.Module
    af: nn.Module

    def __init__(self, w_in: int, w_out: int, stride: int, norm: Norm) -> None:
        super().__init__(w_in, w_out, stride)
        self.proj: nn.Module | None = None
        self.bn: nn.Module | None = None
        if w_in != w_out or stride != 1:
            self.proj = _conv(w_in, w_out, 1, stride=stride)
            self.bn = get_norm(norm, w_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x
        if self.proj is not None:
            skip = self.proj(x)
            skip = self.bn(skip) if self.bn is not None else skip
        return self.af(skip + self.f(x))


class ResBasicBlock(_ResBlock):
    """Residual block with a :class:`BasicTransform`. Arguments as for :class:`VanillaBlock`."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        params: dict[str, Any],
    ) -> None:
        super().__init__(w_in, w_out, stride, norm)
        self.f = BasicTransform(w_in, w_out, stride, norm, activation_class)
        self.af = activation_class()


class ResBottleneckBlock(_ResBlock):
    """Residual block with a :class:`BottleneckTransform`: the X block, and with ``se_r`` the Y block.

    Args:
        w_in: channels of the input.
        w_out: channels of the output.
        stride: stride of the block.
        norm: see :func:`detectron2.layers.get_norm`.
        activation_class: called without arguments to create the activations.
        params: ``"bot_mul"`` (width of the 3x3 convolution divided by ``w_out``), ``"group_w"`` (channels per group),
            ``"se_r"`` (hidden channels of squeeze and excitation divided by ``w_in``; 0 for none).
    """

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        params: dict[str, Any],
    ) -> None:
        super().__init__(w_in, w_out, stride, norm)
        self.f = BottleneckTransform(w_in, w_out, stride, norm, activation_class, params)
        self.af = activation_class()
