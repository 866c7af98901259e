"""HRNet: parallel branches of several resolutions, which exchange features."""

from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.layers.weight_init import c2_msra_fill
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

__all__ = ["PoseHigherResolutionNet", "build_pose_hrnet_backbone"]


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    c2_msra_fill(conv)
    return [conv, nn.BatchNorm2d(outputs)]


def _downsample(inputs: int, outputs: int, relu: bool) -> nn.Sequential:
    """Build a convolution that halves the resolution."""
    return nn.Sequential(*_conv_norm(inputs, outputs, 3, stride=2), *([nn.ReLU()] if relu else []))


class _Block(nn.Module):
    """A residual block of 2 or 3 convolutions, ``conv1`` with ``bn1`` and so on.

    Args:
        inputs: input channels.
        width: internal channels; the output has ``expansion`` times as many.
    """

    expansion: int
    kernels: tuple[int, ...]

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        widths = [inputs, *[width] * (len(self.kernels) - 1), outputs]
        for i, kernel in enumerate(self.kernels, start=1):
            conv, norm = _conv_norm(widths[i - 1], widths[i], kernel)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", norm)
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs:
            self.downsample = nn.Sequential(*_conv_norm(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, width * expansion, H, W]."""
        y = x
        for i in range(1, len(self.kernels) + 1):
            y = F.relu(y) if i > 1 else y
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
        return F.relu(y + self.downsample(x))


class _BasicBlock(_Block):
    expansion = 1
    kernels = (3, 3)


class _Bottleneck(_Block):
    expansion = 4
    kernels = (1, 3, 1)


_BLOCKS: dict[str, type[_Block]] = {"BASIC": _BasicBlock, "BOTTLENECK": _Bottleneck}


def _blocks(kind: type[_Block], inputs: int, width: int, number: int) -> nn.Sequential:
    first = kind(inputs, width)
    rest = [kind(width * kind.expansion, width) for _ in range(number - 1)]
    return nn.Sequential(first, *rest)


class _Module(nn.Module):
    """Residual blocks on every resolution, then a sum over all resolutions for each of them.

    Args:
        kind: block.
        widths: internal channels of the blocks of each resolution.
        numbers: number of blocks of each resolution.
    """

    def __init__(self, kind: type[_Block], widths: list[int], numbers: list[int]) -> None:
        super().__init__()
        channels = [width * kind.expansion for width in widths]
        self.branches = nn.ModuleList(
            _blocks(kind, c, width, number) for c, width, number in zip(channels, widths, numbers)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(channels, i, j) for j in range(len(channels)))
            for i in range(len(channels))
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """Convert maps of all resolutions, the largest first, to maps of the same shapes."""
        found = [branch(x) for branch, x in zip(self.branches, xs)]
        sums = []
        for row in self.fuse_layers:
            parts = [layer(x) for layer, x in zip(row, found)]  # type: ignore[call-overload]
            sums.append(F.relu(sum(parts[1:], parts[0])))
        return sums


def _exchange(channels: list[int], to: int, source: int) -> nn.Module:
    """Build the layers from one resolution to another."""
    if source == to:
        return nn.Identity()
    if source > to:
        enlarge = nn.Upsample(scale_factor=2 ** (source - to), mode="nearest")
        return nn.Sequential(*_conv_norm(channels[source], channels[to], 1), enlarge)
    steps = to - source
    keep = [_downsample(channels[source], channels[source], relu=True) for _ in range(steps - 1)]
    return nn.Sequential(*keep, _downsample(channels[source], channels[to], relu=False))


class PoseHigherResolutionNet(Backbone):
    """A backbone that keeps a high-resolution map throughout, and adds smaller maps stage by stage.

    Its features ``p1``, ``p2``, ... have 1/4, 1/8, ... of the resolution of the image.

    Args:
        cfg: the whole config; reads ``MODEL.HRNET``.
        kwargs: unused.

    Reference: Deep High-Resolution Representation Learning for Visual Recognition, https://arxiv.org/abs/1908.07919
    """

    def __init__(self, cfg: CfgNode, **kwargs: object) -> None:
        super().__init__()
        node = cfg.MODEL.HRNET
        stem = node.STEM_INPLANES
        self.conv1, self.bn1 = _conv_norm(3, stem, 3, stride=2)
        self.conv2, self.bn2 = _conv_norm(stem, stem, 3, stride=2)
        self.layer1 = _blocks(_Bottleneck, stem, 64, 4)
        channels = [64 * _Bottleneck.expansion]
        self.transition1, self.stage2, channels = _stage(node.STAGE2, channels)
        self.transition2, self.stage3, channels = _stage(node.STAGE3, channels)
        self.transition3, self.stage4, channels = _stage(node.STAGE4, channels)
        self._out_features = [f"p{i}" for i in range(1, len(channels) + 1)]
        self._out_feature_channels = dict(zip(self._out_features, channels))
        # Not the true strides, but those of the reference; only HRFPN uses this network.
        self._out_feature_strides = {name: 1 for name in self._out_features}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute features.

        Args:
            x: [N, 3, H, W] images.

        Returns:
            ``p1``, [N, C, H / 4, W / 4], and smaller maps.
        """
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        maps = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            # New maps are computed from the smallest existing one.
            maps = [layer(maps[min(i, len(maps) - 1)]) for i, layer in enumerate(transition)]
            maps = stage(maps)
        return dict(zip(self._out_features, maps))


def _stage(node: Any, before: list[int]) -> tuple[nn.ModuleList, nn.Sequential, list[int]]:
    """Build the layers before a stage and the stage, and return them with the channels of its maps.

    Args:
        node: config of the stage.
        before: channels of the maps of the previous stage.
    """
    if node.FUSE_METHOD != "SUM" or node.BLOCK not in _BLOCKS:
        raise ValueError(
            f"an HRNet stage needs FUSE_METHOD 'SUM' and BLOCK of {sorted(_BLOCKS)}, got {node.FUSE_METHOD!r} "
            f"and {node.BLOCK!r}"
        )
    if not node.NUM_BRANCHES == len(node.NUM_BLOCKS) == len(node.NUM_CHANNELS) >= len(before):
        raise ValueError(
            f"an HRNet stage needs NUM_BLOCKS and NUM_CHANNELS for each of its NUM_BRANCHES = {node.NUM_BRANCHES}, "
            f"got {node.NUM_BLOCKS} and {node.NUM_CHANNELS}"
        )
    kind = _BLOCKS[node.BLOCK]
    channels = [width * kind.expansion for width in node.NUM_CHANNELS]
    transition: list[nn.Module] = []
    for i, number in enumerate(channels):
        if i < len(before):
            same = before[i] == number
            transition.append(
                nn.Identity() if same else nn.Sequential(*_conv_norm(before[i], number, 3), nn.ReLU())
            )
        else:
            steps = i + 1 - len(before)
            widths = [before[-1]] * steps + [number]
            transition.append(nn.Sequential(*(_downsample(a, b, relu=True) for a, b in pairwise(widths))))
    modules = [_Module(kind, list(node.NUM_CHANNELS), list(node.NUM_BLOCKS)) for _ in range(node.NUM_MODULES)]
    return nn.ModuleList(transition), nn.Sequential(*modules), channels


@BACKBONE_REGISTRY.register()
def build_pose_hrnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PoseHigherResolutionNet:
    """Build an HRNet.

    Args:
        cfg: the whole config; reads ``MODEL.HRNET``.
        input_shape: shape of the images; they must have 3 channels.
    """
    return PoseHigherResolutionNet(cfg)
