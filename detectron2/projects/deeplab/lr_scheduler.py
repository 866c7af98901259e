"""The learning rate schedule of DeepLab."""

import torch
from torch.optim.lr_scheduler import LRScheduler

from detectron2.solver.lr_scheduler import _get_warmup_factor_at_iter

__all__ = ["WarmupPolyLR"]


class WarmupPolyLR(LRScheduler):
    """A polynomial decay to 0, multiplied by a warm-up, in steps.

    Args:
        optimizer: its groups hold the initial rates.
        max_iters: steps of the whole training; afterwards the rate stays constant.
        warmup_factor: factor of the warm-up at the first step.
        warmup_iters: warm-up steps.
        warmup_method: "linear" or "constant".
        last_epoch: step to resume after; -1 = start anew.
        power: exponent of the fraction of steps left.
        constant_ending: after the warm-up the rate is at least this fraction of the initial rate.

    Reference: ParseNet, https://arxiv.org/abs/1506.04579 (the "poly" policy)
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
        power: float = 0.9,
        constant_ending: float = 0.0,
    ) -> None:
        self.max_iters = max_iters
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        self.power = power
        self.constant_ending = constant_ending
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the rates of the groups for the next step."""
        step = self.last_epoch
        factor = max(1 - step / self.max_iters, 0.0) ** self.power
        if step >= self.warmup_iters:
            factor = max(factor, self.constant_ending)
        factor *= _get_warmup_factor_at_iter(self.warmup_method, step, self.warmup_iters, self.warmup_factor)
        return [base * factor for base in self.base_lrs]
