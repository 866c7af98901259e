"""Batch norm statistics of the trained weights."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from detectron2.utils.events import EventStorage

from ..train_loop import HookBase
from .eval import undisturbed_rng

__all__ = ["PreciseBN", "get_bn_modules", "update_bn_stats"]

logger = logging.getLogger("detectron2.engine.hooks")


def get_bn_modules(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Batch norms that are in training mode and keep running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.training
        and module.track_running_stats
    ]


@torch.no_grad()
def update_bn_stats(model: nn.Module, data: Iterable[Any], num_iters: int) -> None:
    """Replaces running statistics by the mean over several batches at fixed weights.

    The moving average that training leaves mixes statistics of older weights; see Wu & Johnson,
    Rethinking "Batch" in BatchNorm, https://arxiv.org/abs/2105.07576, section 3.

    Args:
        model: in training mode.
        data: at least `num_iters` batches.
        num_iters: how many to use.

    Raises:
        ValueError: if there are fewer batches.
    """
    norms = get_bn_modules(model)
    if not norms:
        return
    means = [torch.zeros_like(norm.running_mean, dtype=torch.float32) for norm in norms]  # type: ignore[arg-type]
    variances = [torch.zeros_like(norm.running_var, dtype=torch.float32) for norm in norms]  # type: ignore[arg-type]
    momenta = [norm.momentum for norm in norms]
    seen = 0
    try:
        for norm in norms:
            norm.momentum = 1.0  # the running statistics become those of the last batch
        for batch in itertools.islice(data, num_iters):
            model(batch)
            seen += 1
            for norm, mean, variance in zip(norms, means, variances):
                mean.lerp_(norm.running_mean.float(), 1.0 / seen)  # type: ignore[union-attr]
                variance.lerp_(norm.running_var.float(), 1.0 / seen)  # type: ignore[union-attr]
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
    if seen < num_iters:
        raise ValueError(f"precise batch norm was to use {num_iters} batches, but the data hold only {seen}")
    for norm, mean, variance in zip(norms, means, variances):
        norm.running_mean.copy_(mean)  # type: ignore[union-attr]
        norm.running_var.copy_(variance)  # type: ignore[union-attr]


class PreciseBN(HookBase):
    """Recomputes batch norm statistics every so many iterations and at the end.

    Belongs before the hook that evaluates.

    Args:
        period: iterations between two computations; 0 computes at the end only.
        model: the model.
        data_loader: batches; a training loader's order goes on where the last computation ended.
        num_iter: batches for each computation.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable[Any], num_iter: int) -> None:
        self._model = model
        self._period = period
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._batches: Iterator[Any] | None = None
        self._disabled = not get_bn_modules(model)
        if self._disabled:
            logger.info("PreciseBN has nothing to do: the model has no batch norm in training mode.")

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        due = done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0)
        if due:
            self.update_stats()

    def update_stats(self) -> None:
        """Recomputes now."""
        if self._disabled:
            return
        with undisturbed_rng():
            if self._batches is None:
                self._batches = iter(self._data_loader)
            logger.info("Computing batch norm statistics from %d batches.", self._num_iter)
            # The forward passes must not put figures into the training's storage.
            with EventStorage():
                update_bn_stats(self._model, self._batches, self._num_iter)
