"""RegNet X and Y, and the more general AnyNet.

Source: Radosavovic et al., "Designing Network Design Spaces", arXiv 2003.13678. Names of layers follow pycls.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from detectron2.layers import CNNBlockBase
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on, publish
from detectron2.utils.suggest import did_you_mean

from ._regnet_blocks import (
    Activation,
    ResBasicBlock,
    ResBottleneckBlock,
    ResStem,
    SimpleStem,
    VanillaBlock,
    init_layer,
)
from ._resnet_blocks import Norm
from .backbone import Backbone

__all__ = ["AnyNet", "RegNet", "ResBasicBlock", "ResBottleneckBlock", "ResStem", "SimpleStem", "VanillaBlock"]

__getattr__ = passed_on(__name__)

publish(__name__, ResBasicBlock, ResBottleneckBlock, ResStem, SimpleStem, VanillaBlock)


class AnyNet(Backbone):
    """A stem and stages ``s1``, ``s2``, … of blocks ``b1``, ``b2``, …, with arbitrary widths and depths.

    Args:
        stem_class: class of the stem, such as :class:`SimpleStem`.
        stem_width: channels after the stem.
        block_class: class of the blocks, such as :class:`ResBottleneckBlock`.
        depths: number of blocks of each stage.
        widths: channels of each stage.
        group_widths: channels per group of the 3x3 convolutions, for each stage.
        strides: stride of each stage.
        bottleneck_ratios: channels of the 3x3 convolutions divided by those of the stage, for each stage.
        se_ratio: hidden channels of squeeze and excitation divided by the input channels of a block; 0 = none.
        activation_class: called without arguments to create the activations.
        freeze_at: see :meth:`freeze`.
        norm: see :func:`detectron2.layers.get_norm`.
        out_features: names of the outputs among ``"stem"``, ``"s1"``, …; by default the last stage.

    Raises:
        ValueError: if the lists differ in length, or an output is unknown.
    """

    def __init__(
        self,
        *,
        stem_class: Callable[..., CNNBlockBase],
        stem_width: int,
        block_class: Callable[..., CNNBlockBase],
        depths: Sequence[int],
        widths: Sequence[int],
        group_widths: Sequence[int],
        strides: Sequence[int],
        bottleneck_ratios: Sequence[float],
        se_ratio: float,
        activation_class: Activation,
        freeze_at: int = 0,
        norm: Norm = "BN",
        out_features: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if len({len(x) for x in (depths, widths, group_widths, strides, bottleneck_ratios)}) != 1:
            raise BadValue(
                "AnyNet: depths, widths, group_widths, strides and bottleneck_ratios need one entry per stage; got "
                f"{len(depths)}, {len(widths)}, {len(group_widths)}, {len(strides)} and {len(bottleneck_ratios)}"
            )
        self.stem = stem_class(3, stem_width, norm, activation_class)
        self.stage_names = [f"s{i + 1}" for i in range(len(depths))]
        stride, width = self.stem.stride, stem_width
        self._out_feature_channels = {"stem": stem_width}
        self._out_feature_strides = {"stem": stride}
        for i, name in enumerate(self.stage_names):
            params = {"bot_mul": bottleneck_ratios[i], "group_w": group_widths[i], "se_r": se_ratio}
            stage = nn.Sequential()
            for j in range(depths[i]):
                block = block_class(
                    width, widths[i], strides[i] if j == 0 else 1, norm, activation_class, params
                )
                stage.add_module(f"b{j + 1}", block)
                stride *= block.stride
                width = widths[i]
            self.add_module(name, stage)
            self._out_feature_channels[name] = width
            self._out_feature_strides[name] = stride
        self._out_features = list(out_features) if out_features is not None else self.stage_names[-1:]
        for feature in self._out_features:
            if feature not in self._out_feature_strides:
                hint = did_you_mean(feature, self._out_feature_strides)
                raise BadValue(f"AnyNet: no output {feature!r}. {hint}")
        self.apply(init_layer)
        self.freeze(freeze_at)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute feature maps from images (N, 3, H, W).

        Raises:
            ValueError: if ``x`` does not have four dimensions.
        """
        if x.dim() != 4:
            raise BadValue(
                f"AnyNet takes a batch of images (N, C, H, W), got a tensor of shape {tuple(x.shape)}"
            )
        found = {}
        for name in ("stem", *self.stage_names):
            x = getattr(self, name)(x)
            if name in self._out_features:
                found[name] = x
        return found

    def freeze(self, freeze_at: int = 0) -> "AnyNet":
        """Freeze the first layers, see :meth:`ResNet.freeze`, and return this network.

        Args:
            freeze_at: 0 freezes nothing, 1 the stem, 2 the stem and s1, and so on.
        """
        if freeze_at >= 1:
            self.stem.freeze()
        for name in self.stage_names[: max(freeze_at - 1, 0)]:
            for block in getattr(self, name).children():
                block.freeze()
        return self


def _fit_groups(width: int, ratio: float, group: int) -> tuple[int, int]:
    """Round a width so that groups divide it evenly; return it and the channels per group."""
    inner = max(1, int(width * ratio))
    group = min(group, inner)
    multiple = math.lcm(group, int(ratio)) if ratio > 1 else group
    inner = max(multiple, round(inner / multiple) * multiple)
    return int(inner / ratio), group


def regnet_stages(
    w_a: float, w_0: int, w_m: float, depth: int, quantum: int = 8
) -> tuple[list[int], list[int]]:
    """Compute widths and depths of the stages by the quantised linear rule (section 3.3, equations 2 to 4).

    Returns:
        ``(widths, depths)``.

    Raises:
        ValueError: if a parameter is out of range.
    """
    if w_a < 0 or w_0 <= 0 or w_m <= 1 or w_0 % quantum:
        raise BadValue(
            f"RegNet: needs w_a >= 0, w_0 > 0 a multiple of {quantum}, w_m > 1; got {w_a}, {w_0} and {w_m}"
        )
    linear = w_0 + w_a * np.arange(depth)
    steps = np.round(np.log(linear / w_0) / np.log(w_m))
    widths = np.round(w_0 * np.power(w_m, steps) / quantum) * quantum
    stages, counts = np.unique(widths.astype(int), return_counts=True)
    return stages.tolist(), counts.tolist()


class RegNet(AnyNet):
    """An :class:`AnyNet` whose widths grow by a quantised linear rule.

    Args:
        stem_class: class of the stem.
        stem_width: channels after the stem.
        block_class: class of the blocks.
        depth: total number of blocks.
        w_a: slope of the widths.
        w_0: first width, a multiple of 8.
        w_m: ratio of the widths of successive stages.
        group_width: channels per group of the 3x3 convolutions.
        stride: stride of each stage.
        bottleneck_ratio: channels of the 3x3 convolutions divided by those of the stage.
        se_ratio: see :class:`AnyNet`; 0 for RegNet X, 0.25 for Y.
        activation_class: called without arguments to create the activations; by default an in-place ReLU.
        freeze_at: see :meth:`AnyNet.freeze`.
        norm: see :func:`detectron2.layers.get_norm`.
        out_features: names of the outputs among ``"stem"``, ``"s1"``, …; by default the last stage.
    """

    def __init__(
        self,
        *,
        stem_class: Callable[..., CNNBlockBase],
        stem_width: int,
        block_class: Callable[..., CNNBlockBase],
        depth: int,
        w_a: float,
        w_0: int,
        w_m: float,
        group_width: int,
        stride: int = 2,
        bottleneck_ratio: float = 1.0,
        se_ratio: float = 0.0,
        activation_class: Activation | None = None,
        freeze_at: int = 0,
        norm: Norm = "BN",
        out_features: Sequence[str] | None = None,
    ) -> None:
        widths, depths = regnet_stages(w_a, w_0, w_m, depth)
        fitted = [_fit_groups(width, bottleneck_ratio, group_width) for width in widths]
        count = len(widths)
        super().__init__(
            stem_class=stem_class,
            stem_width=stem_width,
            block_class=block_class,
            depths=depths,
            widths=[width for width, _ in fitted],
            group_widths=[group for _, group in fitted],
            strides=[stride] * count,
            bottleneck_ratios=[bottleneck_ratio] * count,
            se_ratio=se_ratio,
            activation_class=activation_class or _relu,
            freeze_at=freeze_at,
            norm=norm,
            out_features=out_features,
        )


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)
