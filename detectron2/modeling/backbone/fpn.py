"""Feature pyramid network and the blocks that add levels on top of it."""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.layers.weight_init import c2_xavier_fill
from detectron2.utils.errors import BadValue
from detectron2.utils.suggest import did_you_mean

from ._resnet_blocks import Norm
from .backbone import Backbone
from .build import BACKBONE_REGISTRY
from .resnet import build_resnet_backbone

__all__ = [
    "FPN",
    "LastLevelMaxPool",
    "LastLevelP6",
    "LastLevelP6P7",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
]


class FPN(Backbone):
    """Top-down pathway with lateral connections over a bottom-up network.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", arXiv 1612.03144. The level of stride
    ``2 ** k`` is called ``"p{k}"``; its lateral 1x1 convolution is ``fpn_lateral{k}`` and its 3x3 output
    convolution ``fpn_output{k}``.

    Args:
        bottom_up: backbone whose features are merged.
        in_features: names of its features, fine to coarse; each stride is twice the one before.
        out_channels: channels of every output.
        norm: normalisation after each convolution; ``""`` = convolutions with bias and no norm.
        top_block: module that computes further, coarser levels as a list of tensors, fine to coarse. It has the
            attributes ``num_levels`` and ``in_feature`` (a feature of ``bottom_up`` or an output of this pyramid).
        fuse_type: ``"sum"`` or ``"avg"`` of lateral and upsampled features.
        square_pad: pad images to a square with this side; 0 = no square.

    Raises:
        ValueError: if ``in_features`` is empty or unknown, its strides are not contiguous powers of two, or
            ``fuse_type`` is unknown.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: Norm = "",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
    ) -> None:
        super().__init__()
        if fuse_type not in ("sum", "avg"):
            raise BadValue(f"FPN: fuse_type must be 'sum' or 'avg', got {fuse_type!r}")
        shapes = bottom_up.output_shape()
        _check_in_features(in_features, shapes)
        strides = [int(shapes[f].stride or 0) for f in in_features]
        _check_strides(strides, in_features)
        self._levels = [int(math.log2(s)) for s in strides]
        for level, feature in zip(self._levels, in_features):
            lateral = _pyramid_conv(shapes[feature].channels or 0, out_channels, 1, norm)
            output = _pyramid_conv(out_channels, out_channels, 3, norm)
            c2_xavier_fill(lateral)
            c2_xavier_fill(output)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
        if isinstance(top_block, LastLevelMaxPool):
            top_block.in_feature = f"p{self._levels[-1]}"
        self.top_block = top_block
        self.in_features = tuple(in_features)
        self.bottom_up = bottom_up
        self._fuse_type = fuse_type
        self._square_pad = square_pad
        self._size_divisibility = strides[-1]
        extra = int(getattr(top_block, "num_levels", 0)) if top_block is not None else 0
        levels = self._levels + [self._levels[-1] + i for i in range(1, extra + 1)]
        self._out_features = [f"p{k}" for k in levels]
        self._out_feature_strides = {f"p{k}": 2**k for k in levels}
        self._out_feature_channels = {f"p{k}": out_channels for k in levels}

    @property
    def size_divisibility(self) -> int:
        """Stride of the coarsest of ``in_features``."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Side of the square to pad to (0 = none), as ``"square_size"``."""
        return {"square_size": self._square_pad}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute pyramid features from images (N, C, H, W); H and W are multiples of :attr:`size_divisibility`."""
        below = self.bottom_up(x)
        found: dict[str, torch.Tensor] = {}
        merged: torch.Tensor | None = None
        for level, feature in zip(reversed(self._levels), reversed(self.in_features)):
            lateral = getattr(self, f"fpn_lateral{level}")(below[feature])
            if merged is None:
                merged = lateral
            else:
                merged = lateral + F.interpolate(merged, scale_factor=2.0, mode="nearest")
                if self._fuse_type == "avg":
                    merged = merged / 2
            found[f"p{level}"] = getattr(self, f"fpn_output{level}")(merged)
        if self.top_block is not None:
            source = str(self.top_block.in_feature)
            added = self.top_block(below[source] if source in below else found[source])
            found.update(zip(self._out_features[len(self._levels) :], added))
        return {name: found[name] for name in self._out_features}


def _pyramid_conv(c_in: int, c_out: int, kernel: int, norm: Norm) -> Conv2d:
    bias = norm in ("", None)
    return Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=bias, norm=get_norm(norm, c_out))


def _check_in_features(in_features: Sequence[str], shapes: dict[str, ShapeSpec]) -> None:
    if not in_features:
        raise BadValue(f"FPN: in_features must not be empty; the bottom-up network has {list(shapes)}")
    for name in in_features:
        if name not in shapes:
            raise BadValue(f"FPN: the bottom-up network has no output {name!r}. {did_you_mean(name, shapes)}")


def _check_strides(strides: Sequence[int], names: Sequence[str]) -> None:
    pairs = ", ".join(f"{n}: {s}" for n, s in zip(names, strides))
    if any(s < 1 or s & (s - 1) for s in strides):
        raise BadValue(f"FPN: strides must be powers of two; got {pairs}")
    if any(b != 2 * a for a, b in itertools.pairwise(strides)):
        raise BadValue(f"FPN: each stride must be twice the one before; got {pairs}")


def _assert_strides_are_log2_contiguous(strides: Sequence[int]) -> None:
    """Check strides; kept for code that imports this name of Detectron2."""
    _check_strides(strides, [str(i) for i in range(len(strides))])


class LastLevelMaxPool(nn.Module):
    """One more level: every second pixel of the coarsest level, usually p5 (Faster R-CNN with FPN)."""

    def __init__(self) -> None:
        super().__init__()
        self.num_levels = 1
        self.in_feature = "p5"

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map (N, C, H, W) to ``[(N, C, ceil(H / 2), ceil(W / 2))]``."""
        return [F.max_pool2d(x, kernel_size=1, stride=2)]


class LastLevelP6(nn.Module):
    """One more level, computed by a strided 3x3 convolution (FCOS and its relatives).

    Args:
        in_channels: channels of ``in_feature``.
        out_channels: channels of the level.
        in_feature: input feature.
    """

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5") -> None:
        super().__init__()
        self.num_levels = 1
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        c2_xavier_fill(self.p6)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map (N, in_channels, H, W) to ``[p6]`` of half the size."""
        return [self.p6(x)]


class LastLevelP6P7(nn.Module):
    """Two more levels, computed by strided 3x3 convolutions with a ReLU between (RetinaNet, arXiv 1708.02002, section 4).

    Args:
        in_channels: channels of ``in_feature``.
        out_channels: channels of both levels.
        in_feature: input feature.
    """

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5") -> None:
        super().__init__()
        self.num_levels = 2
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        c2_xavier_fill(self.p6)
        c2_xavier_fill(self.p7)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map (N, in_channels, H, W) to ``[p6, p7]`` of half and a quarter of the size."""
        p6 = self.p6(x)
        return [p6, self.p7(F.relu(p6))]


def _fpn_from_config(cfg: CfgNode, bottom_up: Backbone, top_block: nn.Module) -> FPN:
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a ResNet with FPN and a pooled top level from ``cfg.MODEL.RESNETS`` and ``cfg.MODEL.FPN``."""
    return _fpn_from_config(cfg, build_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a ResNet with FPN and the convolutional levels p6 and p7, computed from res5."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    channels = bottom_up.output_shape()["res5"].channels or 0
    return _fpn_from_config(cfg, bottom_up, LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS))
