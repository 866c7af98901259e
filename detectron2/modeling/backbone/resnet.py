"""ResNet and ResNeXt, with optional deformable or dilated convolutions."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, ShapeSpec
from detectron2.utils.errors import BadType, BadValue
from detectron2.utils.reexports import passed_on, publish
from detectron2.utils.suggest import did_you_mean

from ._resnet_blocks import BasicBlock, BasicStem, BottleneckBlock, DeformBottleneckBlock
from .backbone import Backbone
from .build import BACKBONE_REGISTRY

__all__ = [
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "DeformBottleneckBlock",
    "ResNet",
    "ResNetBlockBase",
    "build_resnet_backbone",
    "make_stage",
    "resnet_from_config",
    "stage_options_from_config",
]

__getattr__ = passed_on(__name__)

publish(__name__, BasicBlock, BasicStem, BottleneckBlock, DeformBottleneckBlock)

ResNetBlockBase = CNNBlockBase
"""Older name of :class:`detectron2.layers.CNNBlockBase`."""

_BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def _blocks_per_stage(depth: int) -> tuple[int, ...]:
    if depth not in _BLOCKS_PER_STAGE:
        raise BadValue(
            f"there is no ResNet of depth {depth}; choose one of {', '.join(map(str, _BLOCKS_PER_STAGE))}"
        )
    return _BLOCKS_PER_STAGE[depth]


class ResNet(Backbone):
    """A stem and stages called res2, res3, …

    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385.

    Args:
        stem: first layers, with the attributes ``stride`` and ``out_channels``.
        stages: a list of blocks for each stage, see :meth:`make_stage`.
        num_classes: if given, adds average pooling and a linear classifier, output ``"linear"`` of shape
            (N, num_classes).
        out_features: names of the outputs among ``"stem"``, ``"res2"``, …, ``"linear"``; by default the last one.
            Stages that no output needs are dropped.
        freeze_at: stages to freeze, see :meth:`freeze`.

    Raises:
        ValueError: if ``out_features`` names an unknown layer.
    """

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: Sequence[Sequence[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.num_classes = num_classes
        names = [f"res{i}" for i in range(2, 2 + len(stages))]
        known = ["stem", *names] + (["linear"] if num_classes is not None else [])
        wanted = list(out_features) if out_features is not None else known[-1:]
        if not wanted:
            raise BadValue(f"ResNet: out_features must not be empty; choose among {', '.join(known)}")
        for name in wanted:
            if name not in known:
                raise BadValue(f"ResNet: no output {name!r} among {known}. {did_you_mean(name, known)}")

        # An unused stage would cost memory and, under DDP, parameters without a gradient.
        last = len(names) if "linear" in wanted else max(known.index(f) for f in wanted)
        self.stage_names = tuple(names[:last])
        self.stages: list[nn.Module] = []
        self._out_feature_channels = {"stem": stem.out_channels}
        self._out_feature_strides = {"stem": stem.stride}
        stride, channels = stem.stride, stem.out_channels
        for name, blocks in zip(self.stage_names, stages):
            if not blocks or not all(isinstance(b, CNNBlockBase) for b in blocks):
                kinds = [type(b).__name__ for b in blocks]
                raise BadType(f"ResNet: stage {name} must be a non-empty list of CNNBlockBase, got {kinds}")
            for block in blocks:
                stride *= block.stride
            channels = blocks[-1].out_channels
            stage = nn.Sequential(*blocks)
            self.add_module(name, stage)
            self.stages.append(stage)
            self._out_feature_channels[name] = channels
            self._out_feature_strides[name] = stride
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.linear = nn.Linear(channels, num_classes)
            nn.init.normal_(self.linear.weight, std=0.01)  # arXiv 1706.02677, section 5.1
            self._out_feature_channels["linear"] = num_classes
        self._out_features = wanted
        self.freeze(freeze_at)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute feature maps from images (N, C, H, W).

        Raises:
            ValueError: if ``x`` does not have four dimensions.
        """
        if x.dim() != 4:
            raise BadValue(
                f"ResNet takes a batch of images (N, C, H, W), got a tensor of shape {tuple(x.shape)}"
            )
        found = {}
        x = self.stem(x)
        if "stem" in self._out_features:
            found["stem"] = x
        for name, stage in zip(self.stage_names, self.stages):
            x = stage(x)
            if name in self._out_features:
                found[name] = x
        if self.num_classes is not None and "linear" in self._out_features:
            found["linear"] = self.linear(self.avgpool(x).flatten(1))  # (N, num_classes)
        return found

    def freeze(self, freeze_at: int = 0) -> "ResNet":
        """Freeze the first layers and return this network: no gradients, and batch norms become FrozenBatchNorm2d.

        Args:
            freeze_at: 0 freezes nothing, 1 the stem, 2 the stem and res2, and so on.
        """
        if freeze_at >= 1:
            self.stem.freeze()
        for stage in self.stages[: max(freeze_at - 1, 0)]:
            for block in stage.children():
                assert isinstance(block, CNNBlockBase)
                block.freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase],
        num_blocks: int,
        *,
        in_channels: int,
        out_channels: int,
        **kwargs: Any,
    ) -> list[CNNBlockBase]:
        """Create the blocks of one stage.

        Args:
            block_class: class of the blocks.
            num_blocks: number of blocks.
            in_channels: input channels of the first block.
            out_channels: output channels of all blocks.
            kwargs: further arguments of ``block_class``. ``NAME_per_block=[…]`` gives each block its own ``NAME``,
                for example ``stride_per_block=[2, 1, 1]``.

        Raises:
            ValueError: if the length of a list is not ``num_blocks``, or a name is given in both forms.
        """
        suffix = "_per_block"
        same = {k: v for k, v in kwargs.items() if not k.endswith(suffix)}
        own = {k.removesuffix(suffix): v for k, v in kwargs.items() if k.endswith(suffix)}
        for name, values in own.items():
            if len(values) != num_blocks:
                raise BadValue(f"make_stage: {name}{suffix} has {len(values)} values for {num_blocks} blocks")
            if name in same:
                raise BadValue(f"make_stage: give either {name} or {name}{suffix}, not both")
        return [
            block_class(
                in_channels=in_channels if i == 0 else out_channels,
                out_channels=out_channels,
                **same,
                **{name: values[i] for name, values in own.items()},
            )
            for i in range(num_blocks)
        ]

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs: Any
    ) -> list[list[CNNBlockBase]]:
        """Create the four stages of the paper's ResNet, for an input of 64 channels.

        Args:
            depth: 18, 34, 50, 101 or 152.
            block_class: class of the blocks; by default that of the paper. From depth 50 on it is called with
                ``bottleneck_channels``.
            kwargs: further arguments of :meth:`make_stage`, such as ``norm``.
        """
        counts = _blocks_per_stage(depth)
        if block_class is None:
            block_class = BasicBlock if depth < 50 else BottleneckBlock
        growth = 1 if depth < 50 else 4
        channels = [64] + [64 * growth * 2**i for i in range(4)]
        stages = []
        for i, count in enumerate(counts):
            extra = {"bottleneck_channels": channels[i + 1] // 4} if depth >= 50 else {}
            stages.append(
                ResNet.make_stage(
                    block_class,
                    count,
                    stride_per_block=[1 if i == 0 else 2] + [1] * (count - 1),
                    in_channels=channels[i],
                    out_channels=channels[i + 1],
                    **{**extra, **kwargs},
                )
            )
        return stages


def make_stage(*args: Any, **kwargs: Any) -> list[CNNBlockBase]:
    """Call :meth:`ResNet.make_stage`; also accepts the old argument ``first_stride``."""
    if "first_stride" in kwargs:
        count = kwargs["num_blocks"] if "num_blocks" in kwargs else args[1]
        kwargs["stride_per_block"] = [kwargs.pop("first_stride")] + [1] * (count - 1)
    return ResNet.make_stage(*args, **kwargs)


def _check_basic_options(cfg: CfgNode) -> None:
    """Check the options of depths 18 and 34, whose basic blocks have neither groups nor deformable convolutions."""
    c = cfg.MODEL.RESNETS
    wrong = [
        text
        for bad, text in (
            (c.RES2_OUT_CHANNELS != 64, f"RES2_OUT_CHANNELS must be 64, got {c.RES2_OUT_CHANNELS}"),
            (any(c.DEFORM_ON_PER_STAGE), "DEFORM_ON_PER_STAGE must be all False"),
            (c.RES5_DILATION != 1, f"RES5_DILATION must be 1, got {c.RES5_DILATION}"),
            (c.NUM_GROUPS != 1, f"NUM_GROUPS must be 1, got {c.NUM_GROUPS}"),
        )
        if bad
    ]
    if wrong:
        raise BadValue(f"MODEL.RESNETS with DEPTH {c.DEPTH}: {'; '.join(wrong)}")


def stage_options_from_config(cfg: CfgNode, index: int) -> dict[str, Any]:
    """Return the arguments of :meth:`ResNet.make_stage` for stage ``res{index + 2}`` of a config."""
    c = cfg.MODEL.RESNETS
    count = _blocks_per_stage(c.DEPTH)[index]
    dilation = c.RES5_DILATION if index == 3 else 1
    stride = 1 if index == 0 or dilation == 2 else 2
    options: dict[str, Any] = {
        "block_class": BasicBlock,
        "num_blocks": count,
        "in_channels": c.STEM_OUT_CHANNELS if index == 0 else c.RES2_OUT_CHANNELS * 2 ** (index - 1),
        "out_channels": c.RES2_OUT_CHANNELS * 2**index,
        "stride_per_block": [stride] + [1] * (count - 1),
        "norm": c.NORM,
    }
    if c.DEPTH < 50:
        return options
    options.update(
        block_class=BottleneckBlock,
        bottleneck_channels=c.NUM_GROUPS * c.WIDTH_PER_GROUP * 2**index,
        stride_in_1x1=c.STRIDE_IN_1X1,
        dilation=dilation,
        num_groups=c.NUM_GROUPS,
    )
    if c.DEFORM_ON_PER_STAGE[index]:
        options.update(
            block_class=DeformBottleneckBlock,
            deform_modulated=c.DEFORM_MODULATED,
            deform_num_groups=c.DEFORM_NUM_GROUPS,
        )
    return options


def _stage_from_config(cfg: CfgNode, index: int) -> list[CNNBlockBase]:
    """Return the blocks of ``res{index + 2}``."""
    return ResNet.make_stage(**stage_options_from_config(cfg, index))


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build a :class:`ResNet` from ``cfg.MODEL.RESNETS`` and ``cfg.MODEL.BACKBONE.FREEZE_AT``.

    Raises:
        ValueError: if ``RES5_DILATION`` is neither 1 nor 2, the depth is unknown, or this depth lacks an option.
    """
    return resnet_from_config(cfg, input_shape, _stage_from_config)


def resnet_from_config(
    cfg: CfgNode, input_shape: ShapeSpec, make_stage: Callable[[CfgNode, int], list[CNNBlockBase]]
) -> ResNet:
    """Build a :class:`ResNet` from a config, with custom stages.

    Args:
        cfg: config with ``MODEL.RESNETS`` and ``MODEL.BACKBONE.FREEZE_AT``.
        input_shape: shape of the images.
        make_stage: called as ``make_stage(cfg, index)``, index 0 = res2; returns the blocks of a stage.

    Raises:
        ValueError: as for :func:`build_resnet_backbone`.
    """
    c = cfg.MODEL.RESNETS
    if c.RES5_DILATION not in (1, 2):
        raise BadValue(f"MODEL.RESNETS.RES5_DILATION must be 1 or 2, got {c.RES5_DILATION}")
    if c.DEPTH < 50:
        _check_basic_options(cfg)
    stem = BasicStem(in_channels=input_shape.channels or 3, out_channels=c.STEM_OUT_CHANNELS, norm=c.NORM)
    # Create all four, even if ResNet keeps fewer, so that later layers are initialised from the same random state.
    stages = [make_stage(cfg, i) for i in range(4)]
    return ResNet(stem, stages, out_features=c.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
