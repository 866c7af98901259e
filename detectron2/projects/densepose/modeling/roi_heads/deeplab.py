"""A head with atrous spatial pyramid pooling."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ASPP as DilatedBranches
from detectron2.layers import Conv2d, get_norm
from detectron2.layers.weight_init import c2_msra_fill

from ..registries import ROI_DENSEPOSE_HEAD_REGISTRY

__all__ = ["ASPP", "ASPPConv", "ASPPPooling", "DensePoseDeepLabHead", "NONLocalBlock2D"]

_GROUPS = 32


@ROI_DENSEPOSE_HEAD_REGISTRY.register()
class DensePoseDeepLabHead(nn.Module):
    """Convolutions with several dilations in parallel, then convolutions of the same width.

    Args:
        cfg: the whole config; reads ``CONV_HEAD_DIM``, ``CONV_HEAD_KERNEL``, ``NUM_STACKED_CONVS``, ``DEEPLAB.NORM`` and
            ``DEEPLAB.NONLOCAL_ON`` of ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_channels: channels of the features.

    Reference: Rethinking Atrous Convolution for Semantic Image Segmentation, https://arxiv.org/abs/1706.05587
    """

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__()
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD
        width, kernel, norm = node.CONV_HEAD_DIM, node.CONV_HEAD_KERNEL, node.DEEPLAB.NORM
        self.n_out_channels = input_channels
        self.n_stacked_convs = node.NUM_STACKED_CONVS
        self.use_nonlocal = bool(node.DEEPLAB.NONLOCAL_ON)
        self.ASPP = ASPP(input_channels, [6, 12, 56], input_channels)
        if self.use_nonlocal:
            self.NLBlock = NONLocalBlock2D(input_channels)
        for i in range(1, self.n_stacked_convs + 1):
            layer = Conv2d(
                self.n_out_channels,
                width,
                kernel,
                padding=kernel // 2,
                bias=not norm,
                norm=get_norm(norm, width),
                activation=F.relu,
            )
            c2_msra_fill(layer)
            self.add_module(f"body_conv_fcn{i}", layer)
            self.n_out_channels = width

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


def _conv(in_channels: int, out_channels: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        padding=dilation * (kernel // 2),
        dilation=dilation,
        bias=False,
    )
    c2_msra_fill(layer)
    return layer


class ASPPConv(nn.Sequential):
    """A dilated 3x3 convolution, group norm and ReLU.

    Args:
        in_channels: input channels.
        out_channels: output channels, a multiple of 32.
        dilation: distance between the taps.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        conv = _conv(in_channels, out_channels, 3, dilation)
        super().__init__(conv, nn.GroupNorm(_GROUPS, out_channels), nn.ReLU())


class ASPPPooling(nn.Sequential):
    """Global average pooling, a 1x1 convolution, group norm and ReLU, broadcast to the size of the map.

    Args:
        in_channels: input channels.
        out_channels: output channels, a multiple of 32.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        conv = _conv(in_channels, out_channels, 1)
        super().__init__(nn.AdaptiveAvgPool2d(1), conv, nn.GroupNorm(_GROUPS, out_channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C_in, H, W] to [N, C_out, H, W]."""
        return super().forward(x).expand(-1, -1, *x.shape[-2:])


class ASPP(DilatedBranches):
    """The package's pyramid pooling with group norm in every branch, and no norm after mixing.

    Args:
        in_channels: input channels.
        atrous_rates: dilations.
        out_channels: channels of each branch and of the output, a multiple of 32.

    Reference: Rethinking Atrous Convolution for Semantic Image Segmentation, https://arxiv.org/abs/1706.05587
    """

    def __init__(self, in_channels: int, atrous_rates: Sequence[int], out_channels: int) -> None:
        nn.Module.__init__(self)  # published weights have other layers than the base class
        self.pool_kernel_size = None
        self.dropout = 0.0
        first = _conv(in_channels, out_channels, 1)
        self.convs = nn.ModuleList(
            [
                nn.Sequential(first, nn.GroupNorm(_GROUPS, out_channels), nn.ReLU()),
                *(ASPPConv(in_channels, out_channels, rate) for rate in atrous_rates),
                ASPPPooling(in_channels, out_channels),
            ]
        )
        mix = _conv(len(self.convs) * out_channels, out_channels, 1)
        self.project = nn.Sequential(mix, nn.ReLU())  # type: ignore[assignment]


class NONLocalBlock2D(nn.Module):
    """Adds to every pixel a mean over all pixels, weighted by the similarity of their embeddings.

    With a norm it starts as the identity, because the norm's scale is 0.

    Args:
        in_channels: C, input and output channels.
        inter_channels: channels of the embeddings; None = C / 2.
        sub_sample: halve the resolution of the averaged pixels.
        bn_layer: apply a group norm to the output.

    Reference: Non-local Neural Networks, https://arxiv.org/abs/1711.07971
    """

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        sub_sample: bool = True,
        bn_layer: bool = True,
    ) -> None:
        super().__init__()
        inner = inter_channels or max(in_channels // 2, 1)

        def embedding() -> nn.Module:
            conv: nn.Module = nn.Conv2d(in_channels, inner, 1)
            return nn.Sequential(conv, nn.MaxPool2d(2)) if sub_sample else conv

        self.g = embedding()
        out = nn.Conv2d(inner, in_channels, 1)
        self.W: nn.Module = out
        if bn_layer:
            norm = nn.GroupNorm(_GROUPS, in_channels)
            nn.init.zeros_(norm.weight)
            self.W = nn.Sequential(out, norm)
        else:
            nn.init.zeros_(out.weight)
            nn.init.zeros_(out.bias)  # type: ignore[arg-type]
        self.theta = nn.Conv2d(in_channels, inner, 1)
        self.phi = embedding()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        query, key, value = (f(x).flatten(2).transpose(1, 2) for f in (self.theta, self.phi, self.g))
        mean = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # [N, H * W, inner]
        return x + self.W(mean.transpose(1, 2).unflatten(2, x.shape[-2:]))
