"""A ResNet with a stage of trident blocks.

N images, B branches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.layers import CNNBlockBase, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import (
    BottleneckBlock,
    ResNet,
    resnet_from_config,
    stage_options_from_config,
)

from .trident_conv import TridentConv, running_branches

__all__ = ["TridentBottleneckBlock", "build_trident_resnet_backbone", "make_trident_stage"]


class TridentBottleneckBlock(BottleneckBlock):
    """A bottleneck block in several branches with different dilations and shared weights.

    The receptive field of each branch fits a range of object sizes. B branches run in training, and all or one of them
    in evaluation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bottleneck_channels: channels of the 3x3 convolution.
        stride: stride of the block.
        num_groups: groups of the 3x3 convolution.
        norm: normalisation after each convolution, see :func:`detectron2.layers.get_norm`.
        stride_in_1x1: stride in the first 1x1 convolution instead of the 3x3.
        num_branch: B.
        dilations: dilation of the 3x3 convolution in each branch.
        concat_output: return one tensor with the branches along the batch, for following layers without branches.
        test_branch_idx: the only branch that runs in evaluation; -1 = all.

    Reference: Scale-Aware Trident Networks for Object Detection, https://arxiv.org/abs/1901.01892, figure 3
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: str | Callable[[int], nn.Module] = "BN",
        stride_in_1x1: bool = False,
        num_branch: int = 3,
        dilations: Sequence[int] = (1, 2, 3),
        concat_output: bool = False,
        test_branch_idx: int = -1,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            bottleneck_channels=bottleneck_channels,
            stride=stride,
            num_groups=num_groups,
            norm=norm,
            stride_in_1x1=stride_in_1x1,
        )
        self.num_branch = num_branch
        self.concat_output = concat_output
        self.test_branch_idx = test_branch_idx
        self.conv2: Any = TridentConv(
            bottleneck_channels,
            bottleneck_channels,
            kernel_size=3,
            stride=1 if stride_in_1x1 else stride,
            paddings=dilations,
            dilations=dilations,
            groups=num_groups,
            num_branch=num_branch,
            test_branch_idx=test_branch_idx,
            norm=get_norm(norm, bottleneck_channels),
        )

    def forward(self, x: Tensor | list[Tensor]) -> Any:
        """Compute the block's output in each branch.

        Args:
            x: [N, C, H, W] for all branches, or a list with one such tensor for each branch that runs.

        Returns:
            A list with [N, C', H', W'] for each branch, or all of them as [B * N, C', H', W'] if ``concat_output``.
        """
        if isinstance(x, Tensor):
            x = [x] * len(running_branches(self, self.num_branch, self.test_branch_idx))
        hidden = self.conv2([F.relu_(self.conv1(branch)) for branch in x])
        hidden = [self.conv3(F.relu_(branch)) for branch in hidden]
        skips = x if self.shortcut is None else [self.shortcut(branch) for branch in x]
        out = [F.relu_(branch + skip) for branch, skip in zip(hidden, skips)]
        return torch.cat(out) if self.concat_output else out


def make_trident_stage(block_class: type[CNNBlockBase], num_blocks: int, **kwargs: Any) -> list[CNNBlockBase]:
    """Make a stage whose last block joins the branches along the batch.

    Args:
        block_class: :class:`TridentBottleneckBlock`, or a class with its arguments.
        num_blocks: number of blocks.
        kwargs: further arguments of :meth:`.ResNet.make_stage`.
    """
    joins = [i == num_blocks - 1 for i in range(num_blocks)]
    return ResNet.make_stage(block_class, num_blocks, concat_output_per_block=joins, **kwargs)


@BACKBONE_REGISTRY.register()
def build_trident_resnet_backbone(cfg: Any, input_shape: ShapeSpec) -> ResNet:
    """Build a ResNet whose stage ``MODEL.TRIDENT.TRIDENT_STAGE`` has branches.

    Features of that stage and of later ones have B * N rows, branch after branch, unless only one branch runs.

    Raises:
        ValueError: there is no such stage, it has deformable convolutions, or the depth is below 50.
    """
    stages = ["res2", "res3", "res4", "res5"]
    place = cfg.MODEL.TRIDENT.TRIDENT_STAGE
    if place not in stages:
        raise ValueError(f"MODEL.TRIDENT.TRIDENT_STAGE must be one of {stages}, got {place!r}")
    return resnet_from_config(cfg, input_shape, lambda c, i: _stage(c, i, branches=stages[i] == place))


def _stage(cfg: Any, index: int, branches: bool) -> list[CNNBlockBase]:
    options = stage_options_from_config(cfg, index)
    if not branches:
        return ResNet.make_stage(**options)
    if options["block_class"] is not BottleneckBlock:
        raise ValueError(
            f"trident blocks replace plain bottleneck blocks, but stage res{index + 2} has "
            f"{options['block_class'].__name__}: set MODEL.RESNETS.DEFORM_ON_PER_STAGE[{index}] to False and DEPTH to 50 or more"
        )
    node = cfg.MODEL.TRIDENT
    del options["dilation"]  # the branches bring their own
    options.update(
        block_class=TridentBottleneckBlock,
        num_branch=node.NUM_BRANCH,
        dilations=node.BRANCH_DILATIONS,
        test_branch_idx=node.TEST_BRANCH_IDX,
    )
    return make_trident_stage(**options)
