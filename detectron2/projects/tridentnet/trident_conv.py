"""One convolution at several dilations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from detectron2.layers.weight_init import c2_msra_fill

__all__ = ["TridentConv", "running_branches"]


def running_branches(module: nn.Module, num_branch: int, test_branch_idx: int) -> range:
    """Return the branches that run: all in training, the chosen one in evaluation (-1 = all)."""
    if module.training or test_branch_idx == -1:
        return range(num_branch)
    return range(test_branch_idx, test_branch_idx + 1)


class TridentConv(nn.Module):
    """Apply the same weight in each branch, with the dilation and padding of the branch.

    Norm and activation follow in each of the B branches.

    Args:
        in_channels: channels of each input.
        out_channels: channels of each output.
        kernel_size: side or (height, width) of the kernel.
        stride: step, the same for all branches.
        paddings: one for all branches, or a list of B.
        dilations: one for all branches, or a list of B.
        groups: number of channel groups.
        num_branch: B.
        test_branch_idx: the only branch that runs in evaluation; -1 = all.
        bias: add a bias, which the branches share too.
        norm: norm layer after the convolution.
        activation: function after the norm.

    Raises:
        ValueError: the number of paddings or dilations differs from that of branches, or there is no branch
            ``test_branch_idx``.

    Reference: Scale-Aware Trident Networks for Object Detection, https://arxiv.org/abs/1901.01892, section 4
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        paddings: int | Sequence[Any] = 0,
        dilations: int | Sequence[Any] = 1,
        groups: int = 1,
        num_branch: int = 1,
        test_branch_idx: int = -1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not -1 <= test_branch_idx < num_branch:
            raise ValueError(
                f"test_branch_idx must be -1 or below num_branch {num_branch}, got {test_branch_idx}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.num_branch = num_branch
        self.stride = _pair(stride)
        self.groups = groups
        self.with_bias = bias
        self.paddings = _one_per_branch(paddings, num_branch, "paddings")
        self.dilations = _one_per_branch(dilations, num_branch, "dilations")
        self.test_branch_idx = test_branch_idx
        self.norm = norm
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        c2_msra_fill(self)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Convolve the features of each branch that runs.

        Args:
            inputs: [N, C, H, W] for each branch that runs: B in training, in evaluation one if ``test_branch_idx``
                is not -1.

        Returns:
            [N, C', H', W'] for each of them.

        Raises:
            ValueError: the number of inputs is wrong.
        """
        branches = running_branches(self, self.num_branch, self.test_branch_idx)
        if len(inputs) != len(branches):
            raise ValueError(f"TridentConv runs {len(branches)} branches now, got {len(inputs)} inputs")
        return [self._branch(x, i) for x, i in zip(inputs, branches)]

    def _branch(self, x: Tensor, index: int) -> Tensor:
        place = (self.stride, self.paddings[index], self.dilations[index], self.groups)
        x = F.conv2d(x, self.weight, self.bias, *place)
        for step in (self.norm, self.activation):
            if step is not None:
                x = step(x)
        return x

    def extra_repr(self) -> str:
        """Return the arguments, in the order of older logs."""
        names = [
            *("in_channels", "out_channels", "kernel_size", "num_branch", "test_branch_idx"),
            *("stride", "paddings", "dilations", "groups"),
        ]
        shown = [f"{name}={getattr(self, name)}" for name in names]
        return ", ".join([*shown, f"bias={self.with_bias}"])


def _one_per_branch(values: int | Sequence[Any], num_branch: int, name: str) -> list[tuple[int, int]]:
    """Return (height, width) of each branch."""
    each = [values] * num_branch if isinstance(values, int) else list(values)
    if len(each) != num_branch:
        raise ValueError(f"{name} must have one entry for each of {num_branch} branches, got {len(each)}")
    return [_pair(v) for v in each]
