"""Building blocks of convolutional networks."""

from collections.abc import Callable

from torch import Tensor, nn

from .batch_norm import FrozenBatchNorm2d, get_norm
from .weight_init import c2_msra_fill
from .wrappers import Conv2d

__all__ = ["CNNBlockBase", "DepthwiseSeparableConv2d"]


class CNNBlockBase(nn.Module):
    """Base of blocks that map [N, C_in, H, W] to [N, C_out, H / stride, W / stride].

    Args:
        in_channels: C_in.
        out_channels: C_out.
        stride: total stride of the block.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> "CNNBlockBase":
        """Exclude this block from training: parameters get no gradient, batch norms become frozen ones.

        Returns:
            The block itself.
        """
        self.requires_grad_(False)
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


class DepthwiseSeparableConv2d(nn.Module):
    """A depthwise convolution followed by a 1x1 convolution.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel_size: of the depthwise convolution.
        padding: of the depthwise convolution.
        dilation: of the depthwise convolution.
        norm1: norm (as in ``get_norm``) after the depthwise convolution.
        activation1: activation after ``norm1``.
        norm2: norm after the pointwise convolution.
        activation2: activation after ``norm2``.

    A convolution has a bias if no norm follows it.

    Reference: Xception, https://arxiv.org/abs/1610.02357
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: str | Callable[[int], nn.Module] | None = None,
        activation1: Callable[[Tensor], Tensor] | None = None,
        norm2: str | Callable[[int], nn.Module] | None = None,
        activation2: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            padding=padding,
            dilation=dilation,
            groups=in_channels,
            bias=not norm1,
            norm=get_norm(norm1, in_channels),
            activation=activation1,
        )
        self.pointwise = Conv2d(
            in_channels,
            out_channels,
            1,
            bias=not norm2,
            norm=get_norm(norm2, out_channels),
            activation=activation2,
        )
        for conv in (self.depthwise, self.pointwise):
            c2_msra_fill(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C_in, H, W] to [N, C_out, H', W']."""
        return self.pointwise(self.depthwise(x))
