"""ResNet with DeepLab's stem and its dilated last stages."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.layers.weight_init import c2_msra_fill
from detectron2.modeling import BACKBONE_REGISTRY, ResNet
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, DeformBottleneckBlock

from .blocks import Norm

__all__ = ["DeepLabStem", "build_resnet_deeplab_backbone"]

_BLOCKS_PER_STAGE = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class DeepLabStem(CNNBlockBase):
    """Stem of three 3x3 convolutions instead of one 7x7, then 3x3 max pooling; total stride 4.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the output; the first two convolutions have half of them.
        norm: normalisation after each convolution, see :func:`detectron2.layers.get_norm`.

    Reference: Inception-v4, https://arxiv.org/abs/1602.07261 (the idea of such a stem)
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 128, norm: Norm = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        half = out_channels // 2

        def conv(inputs: int, outputs: int, stride: int) -> Conv2d:
            return Conv2d(
                inputs, outputs, 3, stride=stride, padding=1, bias=False, norm=get_norm(norm, outputs)
            )

        self.conv1 = conv(in_channels, half, 2)
        self.conv2 = conv(half, half, 1)
        self.conv3 = conv(half, out_channels, 1)
        for layer in (self.conv1, self.conv2, self.conv3):
            c2_msra_fill(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C_in, H, W] to [N, C_out, H / 4, W / 4]."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


_STEMS = {"basic": BasicStem, "deeplab": DeepLabStem}


def _check(options: CfgNode) -> None:
    """Check ``MODEL.RESNETS``; raise ValueError with all problems."""
    depth, res4, res5 = options.DEPTH, options.RES4_DILATION, options.RES5_DILATION
    grid = options.RES5_MULTI_GRID
    wrong = [
        text
        for bad, text in (
            (depth not in _BLOCKS_PER_STAGE, f"DEPTH must be one of {list(_BLOCKS_PER_STAGE)}, got {depth}"),
            (
                options.STEM_TYPE not in _STEMS,
                f"STEM_TYPE must be one of {list(_STEMS)}, got {options.STEM_TYPE!r}",
            ),
            (res4 not in (1, 2), f"RES4_DILATION must be 1 or 2, got {res4}"),
            (res5 not in (1, 2, 4), f"RES5_DILATION must be 1, 2 or 4, got {res5}"),
            (res4 == 2 and res5 != 4, f"RES4_DILATION 2 needs RES5_DILATION 4, got {res5}"),
            (
                len(grid) != 3,
                f"RES5_MULTI_GRID must have a factor for each of the 3 blocks, got {list(grid)}",
            ),
        )
        if bad
    ]
    if wrong:
        raise ValueError(f"MODEL.RESNETS: {'; '.join(wrong)}")


def _stage(options: CfgNode, index: int) -> list[CNNBlockBase]:
    """Build the blocks of ``res{index + 2}``."""
    count = _BLOCKS_PER_STAGE[options.DEPTH][index]
    dilation = (1, 1, options.RES4_DILATION, options.RES5_DILATION)[index]
    grid = options.RES5_MULTI_GRID if index == 3 else [1] * count
    stride = 1 if index == 0 or dilation > 1 else 2  # a dilated stage keeps the resolution
    arguments: dict[str, Any] = {
        "in_channels": options.STEM_OUT_CHANNELS
        if index == 0
        else options.RES2_OUT_CHANNELS * 2 ** (index - 1),
        "out_channels": options.RES2_OUT_CHANNELS * 2**index,
        "bottleneck_channels": options.NUM_GROUPS * options.WIDTH_PER_GROUP * 2**index,
        "stride_per_block": [stride] + [1] * (count - 1),
        "dilation_per_block": [dilation * factor for factor in grid],
        "stride_in_1x1": options.STRIDE_IN_1X1,
        "num_groups": options.NUM_GROUPS,
        "norm": options.NORM,
    }
    if not options.DEFORM_ON_PER_STAGE[index]:
        return ResNet.make_stage(BottleneckBlock, count, **arguments)
    return ResNet.make_stage(
        DeformBottleneckBlock,
        count,
        deform_modulated=options.DEFORM_MODULATED,
        deform_num_groups=options.DEFORM_NUM_GROUPS,
        **arguments,
    )


@BACKBONE_REGISTRY.register()
def build_resnet_deeplab_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the ResNet that ``MODEL.RESNETS`` and ``MODEL.BACKBONE.FREEZE_AT`` describe.

    Args:
        cfg: a config with the keys of ``add_deeplab_config``.
        input_shape: ``channels`` of the images.

    Raises:
        ValueError: an option of ``MODEL.RESNETS`` is not supported.

    Reference: https://arxiv.org/abs/1706.05587, section 3.2 (multi-grid)
    """
    options = cfg.MODEL.RESNETS
    _check(options)
    stem = _STEMS[options.STEM_TYPE](input_shape.channels or 3, options.STEM_OUT_CHANNELS, options.NORM)
    stages = [_stage(options, index) for index in range(4)]
    return ResNet(stem, stages, out_features=options.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
