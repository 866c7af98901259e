"""The simple pyramid of ViTDet: several levels computed from the last map of a plain backbone.

Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), arXiv 2203.16527.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from detectron2.layers import Conv2d, get_norm
from detectron2.utils.errors import BadValue

from ._resnet_blocks import Norm
from .backbone import Backbone

__all__ = ["SimpleFeaturePyramid"]


class SimpleFeaturePyramid(Backbone):
    """Levels of several strides, each computed from the same map (ViTDet, section 3).

    Args:
        net: backbone that computes the map.
        in_feature: name of the map.
        out_channels: channels of every level.
        scale_factors: resolution of each level relative to the map, fine to coarse, among 4, 2, 1 and 0.5.
        top_block: computes further levels, see :class:`FPN`.
        norm: normalisation after the convolutions.
        square_pad: pad images to a square with this side; 0 = no square.

    Raises:
        ValueError: for another scale factor, or an ``in_feature`` that ``net`` lacks.
    """

    def __init__(
        self,
        net: Backbone,
        in_feature: str,
        out_channels: int,
        scale_factors: Sequence[float],
        top_block: nn.Module | None = None,
        norm: Norm = "LN",
        square_pad: int = 0,
    ) -> None:
        super().__init__()
        shapes = net.output_shape()
        if in_feature not in shapes:
            raise BadValue(
                f"SimpleFeaturePyramid: the network has no output {in_feature!r}, only {list(shapes)}"
            )
        dim, stride = int(shapes[in_feature].channels or 0), int(shapes[in_feature].stride or 0)
        self.scale_factors = tuple(scale_factors)
        self._levels = []
        for scale in scale_factors:
            level = round(math.log2(stride / scale))
            self.add_module(f"simfp_{level}", _pyramid_level(scale, dim, out_channels, norm))
            self._levels.append(level)
        self.net = net
        self.in_feature = in_feature
        self.top_block = top_block
        self._square_pad = square_pad
        extra = int(getattr(top_block, "num_levels", 0)) if top_block is not None else 0
        levels = self._levels + [self._levels[-1] + i for i in range(1, extra + 1)]
        self._out_features = [f"p{k}" for k in levels]
        self._out_feature_strides = {f"p{k}": 2**k for k in levels}
        self._out_feature_channels = {f"p{k}": out_channels for k in levels}
        self._size_divisibility = 2 ** max(self._levels)

    @property
    def size_divisibility(self) -> int:
        """Stride of the coarsest level, not counting the top block."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """``"size_divisibility"`` and ``"square_size"`` (0 = no square)."""
        return {"size_divisibility": self._size_divisibility, "square_size": self._square_pad}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute pyramid features from images (N, C, H, W)."""
        below = self.net(x)
        source = below[self.in_feature]
        found = {f"p{k}": getattr(self, f"simfp_{k}")(source) for k in self._levels}
        if self.top_block is not None:
            start = str(self.top_block.in_feature)
            added = self.top_block(below[start] if start in below else found[start])
            found.update(zip(self._out_features[len(self._levels) :], added))
        return {name: found[name] for name in self._out_features}


def _pyramid_level(scale: float, dim: int, out_channels: int, norm: Norm) -> nn.Sequential:
    """Build layers that resample by ``scale``, then a 1x1 and a 3x3 convolution."""
    resample: list[nn.Module]
    if scale == 4.0:
        # A placeholder if there is no norm, because the index of a layer is part of its parameters' names.
        between = get_norm(norm, dim // 2) or nn.Identity()
        resample = [
            nn.ConvTranspose2d(dim, dim // 2, 2, stride=2),
            between,
            nn.GELU(),
            nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2),
        ]
        dim = dim // 4
    elif scale == 2.0:
        resample = [nn.ConvTranspose2d(dim, dim // 2, 2, stride=2)]
        dim = dim // 2
    elif scale == 1.0:
        resample = []
    elif scale == 0.5:
        resample = [nn.MaxPool2d(2, stride=2)]
    else:
        raise BadValue(f"SimpleFeaturePyramid: a scale factor must be 4, 2, 1 or 0.5, got {scale}")
    bias = norm in ("", None)
    return nn.Sequential(
        *resample,
        Conv2d(dim, out_channels, 1, bias=bias, norm=get_norm(norm, out_channels)),
        Conv2d(out_channels, out_channels, 3, padding=1, bias=bias, norm=get_norm(norm, out_channels)),
    )
