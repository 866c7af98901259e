"""Learning rate schedules that drive an optimizer step by step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from detectron2.utils.errors import BadValue

from .param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    ExponentialParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    PolynomialDecayParamScheduler,
    StepParamScheduler,
    StepWithFixedGammaParamScheduler,
)

__all__ = [
    "CompositeParamScheduler",
    "ConstantParamScheduler",
    "CosineParamScheduler",
    "ExponentialParamScheduler",
    "LRMultiplier",
    "LRScheduler",
    "LinearParamScheduler",
    "MultiStepParamScheduler",
    "ParamScheduler",
    "PolynomialDecayParamScheduler",
    "StepParamScheduler",
    "StepWithFixedGammaParamScheduler",
    "WarmupCosineLR",
    "WarmupMultiStepLR",
    "WarmupParamScheduler",
]


class WarmupParamScheduler(CompositeParamScheduler):
    """Puts a warm-up before a curve (Goyal et al., https://arxiv.org/abs/1706.02677, section 2.2).

    Args:
        scheduler: the curve to follow after the warm-up.
        warmup_factor: the warm-up starts at this times the curve's first value.
        warmup_length: share of the training in [0, 1] that the warm-up takes.
        warmup_method: "linear" climbs to where the curve takes over, "constant" stays at the start.
        rescale_interval: run the whole curve in the time after the warm-up; otherwise the warm-up
            covers the curve's beginning.

    Raises:
        ValueError: for any other method.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        first = warmup_factor * scheduler(0.0)
        warmup: ParamScheduler
        if warmup_method == "constant":
            warmup = ConstantParamScheduler(first)
        elif warmup_method == "linear":
            # A warm-up over the whole training aims at the curve's end.
            warmup = LinearParamScheduler(first, scheduler(0.0 if rescale_interval else warmup_length))
        else:
            raise BadValue(f"warmup_method must be 'linear' or 'constant', got {warmup_method!r}")
        super().__init__(
            [warmup, scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Multiplies the initial learning rate of every parameter group by a curve.

    All groups keep their ratio; the curve knows nothing of steps, so one curve serves trainings of
    any length. Call ``step()`` once after each optimizer step.

    Args:
        optimizer: its groups hold the initial rates.
        multiplier: the curve.
        max_iter: steps in the whole training.
        last_iter: step to resume after; -1 starts anew.

    Raises:
        ValueError: if ``multiplier`` is no ``ParamScheduler``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        multiplier: ParamScheduler,
        max_iter: int,
        last_iter: int = -1,
    ) -> None:
        if not isinstance(multiplier, ParamScheduler):
            raise BadValue(
                f"multiplier must be a ParamScheduler (see detectron2.solver.param_scheduler), got {multiplier!r}"
            )
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Return the initial rates and the step; the curve itself comes from the config."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float | torch.Tensor]:
        """Compute the rates of the groups for the coming step."""
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base * factor for base in self.base_lrs]


def _get_warmup_factor_at_iter(method: str, iter: int, warmup_iters: int, warmup_factor: float) -> float:
    """Compute the factor of a warm-up on the learning rate at one step."""
    if method not in ("constant", "linear"):
        raise BadValue(f"warmup_method must be 'linear' or 'constant', got {method!r}")
    if iter >= warmup_iters:
        return 1.0
    progress = iter / warmup_iters if method == "linear" else 0.0
    return warmup_factor + (1.0 - warmup_factor) * progress


class _WarmupLR(LRScheduler):
    """A schedule counted in steps with a warm-up; subclasses define ``_decay(step)``."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup_factor: float,
        warmup_iters: int,
        warmup_method: str,
        last_epoch: int,
    ) -> None:
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Compute the rates of the groups for the coming step."""
        return self._compute_values()

    def _compute_values(self) -> list[float | torch.Tensor]:
        """Compute the rates; subclasses may replace it, or :meth:`get_lr`."""
        step = self.last_epoch
        warm = _get_warmup_factor_at_iter(self.warmup_method, step, self.warmup_iters, self.warmup_factor)
        factor = warm * self._decay(step)
        return [base * factor for base in self.base_lrs]

    def _decay(self, step: int) -> float:
        raise NotImplementedError


class WarmupMultiStepLR(_WarmupLR):
    """A staircase with a warm-up, counted in steps; ``LRMultiplier`` with curves is the newer way.

    Args:
        optimizer: its groups hold the initial rates.
        milestones: steps at which the rate changes, rising.
        gamma: factor at each of them.
        warmup_factor: factor at the first step.
        warmup_iters: steps of warm-up.
        warmup_method: "linear" or "constant".
        last_epoch: step to resume after; -1 starts anew.

    Raises:
        ValueError: if the milestones do not rise.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        if list(milestones) != sorted(milestones):
            raise BadValue(f"milestones must rise, got {list(milestones)}")
        self.milestones = milestones
        self.gamma = gamma
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self, step: int) -> float:
        return self.gamma ** bisect.bisect_right(self.milestones, step)


class WarmupCosineLR(_WarmupLR):
    """Half a cosine wave to 0 with a warm-up, counted in steps.

    Args:
        optimizer: its groups hold the initial rates.
        max_iters: steps in the whole training.
        warmup_factor: factor at the first step.
        warmup_iters: steps of warm-up.
        warmup_method: "linear" or "constant".
        last_epoch: step to resume after; -1 starts anew.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        self.max_iters = max_iters
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self, step: int) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * step / self.max_iters))
