"""Learning rate schedules of optimizers."""

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
    """A curve with a warm-up.

    Args:
        scheduler: the curve after the warm-up.
        warmup_factor: the warm-up starts at the first value of the curve times this factor.
        warmup_length: share of the training in [0, 1] for the warm-up.
        warmup_method: "linear" rises to the value of the curve at its end, "constant" stays at the start.
        rescale_interval: run the whole curve after the warm-up; otherwise the warm-up replaces its beginning.

    Raises:
        ValueError: if ``warmup_method`` is another.

    Reference: Goyal et al., Accurate, Large Minibatch SGD, section 2.2, https://arxiv.org/abs/1706.02677
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
            # A warm-up over the whole training ends at the end of the curve.
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

    The ratios of the groups do not change. The curve does not depend on the length of the training. Call ``step()`` once
    after each optimizer step.

    Args:
        optimizer: its groups have the initial rates.
        multiplier: the curve.
        max_iter: total number of steps.
        last_iter: last step before resuming; -1 for a new training.

    Raises:
        ValueError: if ``multiplier`` is not a ``ParamScheduler``.
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
        """Return the initial rates and the step; the curve is rebuilt from the config."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float | torch.Tensor]:
        """Compute the rates of the groups for the next step."""
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base * factor for base in self.base_lrs]


def _get_warmup_factor_at_iter(method: str, iter: int, warmup_iters: int, warmup_factor: float) -> float:
    """Compute the warm-up factor of the learning rate at one step."""
    if method not in ("constant", "linear"):
        raise BadValue(f"warmup_method must be 'linear' or 'constant', got {method!r}")
    if iter >= warmup_iters:
        return 1.0
    progress = iter / warmup_iters if method == "linear" else 0.0
    return warmup_factor + (1.0 - warmup_factor) * progress


class _WarmupLR(LRScheduler):
    """A schedule in steps with a warm-up; subclasses define ``_decay(step)``."""

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
        """Compute the rates of the groups for the next step."""
        return self._compute_values()

    def _compute_values(self) -> list[float | torch.Tensor]:
        """Compute the rates; subclasses may override this or :meth:`get_lr`."""
        step = self.last_epoch
        warm = _get_warmup_factor_at_iter(self.warmup_method, step, self.warmup_iters, self.warmup_factor)
        factor = warm * self._decay(step)
        return [base * factor for base in self.base_lrs]

    def _decay(self, step: int) -> float:
        raise NotImplementedError


class WarmupMultiStepLR(_WarmupLR):
    """A multi-step schedule with a warm-up, in steps; :class:`LRMultiplier` with curves is more general.

    Args:
        optimizer: its groups have the initial rates.
        milestones: increasing steps at which the rate changes.
        gamma: factor at each milestone.
        warmup_factor: factor at the first step.
        warmup_iters: number of warm-up steps.
        warmup_method: "linear" or "constant".
        last_epoch: last step before resuming; -1 for a new training.

    Raises:
        ValueError: if the milestones do not increase.
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
            raise BadValue(f"milestones must increase, got {list(milestones)}")
        self.milestones = milestones
        self.gamma = gamma
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self, step: int) -> float:
        return self.gamma ** bisect.bisect_right(self.milestones, step)


class WarmupCosineLR(_WarmupLR):
    """Half a cosine wave to 0 with a warm-up, in steps.

    Args:
        optimizer: its groups have the initial rates.
        max_iters: total number of steps.
        warmup_factor: factor at the first step.
        warmup_iters: number of warm-up steps.
        warmup_method: "linear" or "constant".
        last_epoch: last step before resuming; -1 for a new training.
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
