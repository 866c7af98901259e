"""Recomputation of batch norm statistics at fixed weights."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from detectron2.utils.errors import BadValue
from detectron2.utils.events import EventStorage

from .eval import undisturbed_rng
from .periodic import PeriodicHook

__all__ = ["PreciseBN", "get_bn_modules", "update_bn_stats"]

logger = logging.getLogger("detectron2.engine.hooks")


def get_bn_modules(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the batch norms that are in training mode and keep running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.training
        and module.track_running_stats
    ]


class _Statistics:
    """Mean and variance over all values that a batch norm has seen, batch by batch."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        assert norm.running_mean is not None
        self.count = 0
        self.mean = torch.zeros_like(norm.running_mean, dtype=torch.float32)
        self.squares = torch.zeros_like(self.mean)  # sum of squared distances from the mean

    def add(
        self, norm: nn.modules.batchnorm._BatchNorm, args: tuple[torch.Tensor, ...], output: object
    ) -> None:
        """Add the last batch of the norm, whose running statistics are those of this batch."""
        assert norm.running_mean is not None and norm.running_var is not None
        count = args[0].numel() // max(args[0].shape[1], 1)
        if count == 0:
            return
        self.count += count
        distance = norm.running_mean.float() - self.mean
        self.mean += distance * (count / self.count)
        # The running variance is unbiased: divided by count - 1.
        self.squares += norm.running_var.float() * (count - 1)
        self.squares += distance.square() * (count * (self.count - count) / self.count)


@torch.no_grad()
def update_bn_stats(model: nn.Module, data: Iterable[Any], num_iters: int) -> None:
    """Replace running statistics by the mean and population variance over several batches, at fixed weights.

    The moving averages of training mix statistics of older weights; see Wu & Johnson, Rethinking "Batch" in BatchNorm,
    https://arxiv.org/abs/2105.07576, section 3.

    Args:
        model: the model, in training mode.
        data: at least ``num_iters`` batches.
        num_iters: number of batches to use.

    Raises:
        ValueError: if there are fewer batches.
    """
    norms = get_bn_modules(model)
    if not norms:
        return
    found = [_Statistics(norm) for norm in norms]
    momenta = [norm.momentum for norm in norms]
    handles = [norm.register_forward_hook(statistics.add) for norm, statistics in zip(norms, found)]
    seen = 0
    try:
        for norm in norms:
            norm.momentum = 1.0  # the running statistics become those of the last batch
        for batch in itertools.islice(data, num_iters):
            model(batch)
            seen += 1
    finally:
        for norm, momentum, handle in zip(norms, momenta, handles):
            norm.momentum = momentum
            handle.remove()
    if seen < num_iters:
        raise BadValue(f"precise batch norm needs {num_iters} batches, but the data has only {seen}")
    for norm, statistics in zip(norms, found):
        if statistics.count:
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(statistics.mean)
            norm.running_var.copy_(statistics.squares / statistics.count)


class PreciseBN(PeriodicHook):
    """Recomputes batch norm statistics every few iterations and in the last one.

    Register it before the hooks that save and evaluate.

    Args:
        period: iterations between two computations; 0 computes only in the last iteration.
        model: the model.
        data_loader: loader of batches; each computation continues where the previous one ended.
        num_iter: number of batches per computation.
    """

    last_run = "after_step"

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable[Any], num_iter: int) -> None:
        super().__init__(period)
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._batches: Iterator[Any] | None = None
        self._disabled = not get_bn_modules(model)
        if self._disabled:
            logger.info("PreciseBN has nothing to do: the model has no batch norm in training mode.")

    def run(self) -> None:
        self.update_stats()

    def update_stats(self) -> None:
        """Recompute the statistics now."""
        if self._disabled:
            return
        with undisturbed_rng():
            if self._batches is None:
                self._batches = iter(self._data_loader)
            logger.info("Computing batch norm statistics from %d batches.", self._num_iter)
            # Forward passes must not write into the storage of the training.
            with EventStorage():
                update_bn_stats(self._model, self._batches, self._num_iter)
