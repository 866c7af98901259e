"""Convolutions between backbone and transformer, and layer norm of maps."""

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from detectron2.layers import ShapeSpec
from detectron2.layers.batch_norm import LayerNorm as _MapNorm

__all__ = ["ChannelMapper", "ConvNorm", "ConvNormAct", "LayerNorm"]


class LayerNorm(_MapNorm):
    """Layer normalisation over channels.

    Args:
        normalized_shape: number of channels.
        eps: added to the variance under the root.
        channel_last: tensors are [..., C] rather than [N, C, H, W].
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-6, channel_last: bool = True) -> None:
        super().__init__(normalized_shape, eps)
        self.channel_last = channel_last

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; the shape stays."""
        if self.channel_last:
            return nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return super().forward(x)


class ConvNormAct(nn.Module):
    """Convolution, norm and activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the convolution.
        stride: of the convolution.
        padding: of the convolution.
        dilation: of the convolution.
        groups: of the convolution.
        bias: let the convolution have a bias.
        norm_layer: the norm; None for none.
        activation: the activation; None for none.
        kwargs: further arguments of ``torch.nn.Conv2d``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        norm_layer: nn.Module | None = None,
        activation: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, **kwargs
        )
        self.norm = norm_layer
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H', W']."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)


ConvNorm = functools.partial(ConvNormAct, activation=None)
"""Convolution and norm."""


class ChannelMapper(nn.Module):
    """Brings the maps of a backbone to one number of channels, and adds coarser maps.

    Args:
        input_shapes: names of the backbone's maps and their channels.
        in_features: names of the maps to take, fine first.
        out_channels: channels of the output.
        kernel_size: of the convolutions; those of added maps are 3 x 3 with stride 2.
        stride: of the convolutions.
        bias: let convolutions have biases.
        groups: of the convolutions.
        dilation: of the convolutions.
        norm_layer: norm, to copy for each convolution; None for none.
        activation: activation; None for none.
        num_outs: number of maps to return; those of the backbone by default.
        kwargs: ignored.

    Attributes:
        extra_levels: number of added maps.
    """

    def __init__(
        self,
        input_shapes: Mapping[str, ShapeSpec],
        in_features: Sequence[str],
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = True,
        groups: int = 1,
        dilation: int = 1,
        norm_layer: nn.Module | None = None,
        activation: nn.Module | None = None,
        num_outs: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.in_features = list(in_features)
        channels = [input_shapes[name].channels or 0 for name in in_features]

        def conv(size: int, kernel: int, stride: int, padding: int, groups: int, dilation: int) -> nn.Module:
            norm = copy.deepcopy(norm_layer)
            return ConvNormAct(
                size, out_channels, kernel, stride, padding, dilation, groups, bias, norm, activation
            )

        around = (kernel_size - 1) // 2
        self.convs = nn.ModuleList(conv(c, kernel_size, stride, around, groups, dilation) for c in channels)
        self.extra_levels = (num_outs or len(channels)) - len(channels)
        sizes = [channels[-1], *[out_channels] * self.extra_levels][: self.extra_levels]
        self.extra_convs = nn.ModuleList(conv(c, 3, 2, 1, 1, 1) for c in sizes)

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Map the backbone's maps [N, C_i, H_i, W_i] to ``num_outs`` maps [N, out_channels, H_i, W_i]."""
        outs = [conv(inputs[name]) for conv, name in zip(self.convs, self.in_features)]
        last = inputs[self.in_features[-1]]
        for conv in self.extra_convs:
            last = conv(last)
            outs.append(last)
        return tuple(outs)
