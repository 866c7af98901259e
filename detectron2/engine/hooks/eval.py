"""Evaluation and validation loss during training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.env import rng_state, set_rng_state
from detectron2.utils.errors import BadType, BadValue
from detectron2.utils.unwrap import unwrap_model

from ..sharding import whole_weights
from .periodic import PeriodicHook

__all__ = ["EvalHook", "ValidationLoss", "flat_results", "undisturbed_rng"]


@contextmanager
def undisturbed_rng() -> Iterator[None]:
    """Restore the states of the random generators after a ``with`` block.

    Code inside then cannot change training: a run resumed from a checkpoint written before an evaluation equals one
    that was not interrupted.
    """
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


def flat_results(results: object) -> dict[str, float]:
    """Return the numbers of an evaluation, with nested names joined by ``/``.

    Raises:
        TypeError: if the results are not a dict.
        ValueError: if a value is not a number.
    """
    if not isinstance(results, Mapping):
        raise BadType(f"an evaluation must return a dict or None, got {type(results).__name__}")
    flat = flatten_results_dict(dict(results))
    for name, value in flat.items():
        try:
            flat[name] = float(value)
        except (TypeError, ValueError):
            raise BadValue(
                f"an evaluation must return numbers in nested dicts, but {name} is {value!r}"
            ) from None
    return flat


class EvalHook(PeriodicHook):
    """Runs an evaluation every few iterations and stores its results.

    All processes run it and wait for each other.

    Args:
        eval_period: iterations between two evaluations; 0 evaluates only at the end.
        eval_function: called without arguments; returns nested dicts of numbers, or None. Nested names are joined by
            ``/``.
        eval_after_train: whether to evaluate also at the end of complete training.
    """

    runs_again = True

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], Mapping[str, Any] | None],
        eval_after_train: bool = True,
    ) -> None:
        super().__init__(eval_period)
        self._func: Callable[[], Mapping[str, Any] | None] | None = eval_function
        self._eval_after_train = eval_after_train

    def run(self) -> None:
        self._do_eval()

    def _do_eval(self) -> None:
        """Evaluate and store the results."""
        assert self._func is not None
        with undisturbed_rng():
            results = self._func()
        if results:
            for name, value in flat_results(results).items():
                self.trainer.storage.put_scalar(name, value, smoothing_hint=False)
        # Processes may take different times: wait here, so that none runs into a time-out in the next collective.
        comm.synchronize()

    def after_train(self) -> None:
        if self._eval_after_train:
            super().after_train()
        # The function often holds the trainer, and with it the model.
        self._func = None


class ValidationLoss(PeriodicHook):
    """Stores the mean losses on held-out data as ``val/total_loss`` and ``val/<loss>``.

    Models compute losses only in training mode, so the model stays in it, without gradients, except for norms, dropout
    and stochastic depth. Each computation uses the same images and the same random samples.

    Args:
        period: iterations between two computations; 0 computes only at the end.
        model: the model.
        data_loader: finite loader of batches with annotations; each process reads its part.
        max_batches: largest number of batches; 0 = all.
        prefix: prefix of the names.
    """

    runs_again = True

    def __init__(
        self,
        period: int,
        model: nn.Module,
        data_loader: Iterable[Any],
        max_batches: int = 0,
        prefix: str = "val/",
    ) -> None:
        super().__init__(period)
        self._model = model
        self._loader = data_loader
        self._max_batches = max_batches
        self._prefix = prefix

    def compute(self) -> dict[str, float]:
        """Compute the mean of each loss over the data of all processes."""
        sums: dict[str, float] = {}
        count = 0
        # Without DDP, which would communicate, while the processes may have different numbers of batches.
        inner = unwrap_model(self._model)
        with undisturbed_rng(), torch.no_grad(), _deterministic(inner), whole_weights(inner):
            torch.manual_seed(0)
            for batch in self._loader:
                losses = inner(batch)
                size = len(batch) if isinstance(batch, (list, tuple)) else 1
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * size
                count += size
                if self._max_batches and count >= self._max_batches * size:
                    break
        parts = comm.all_gather((sums, count))
        images = sum(n for _, n in parts)
        names = sorted({name for part, _ in parts for name in part})
        means = {name: sum(p.get(name, 0.0) for p, _ in parts) / max(images, 1) for name in names}
        return {"total_loss": sum(means.values()), **means}

    def run(self) -> None:
        for name, value in self.compute().items():
            self.trainer.storage.put_scalar(self._prefix + name, value, smoothing_hint=False)


_NORMS_AND_DROPOUT = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
# By name, because other libraries (timm, torchvision) have their own classes.
_STOCHASTIC_DEPTH = {"DropBlock2d", "DropPath", "PatchDropout", "StochasticDepth"}


@contextmanager
def _deterministic(model: nn.Module) -> Iterator[None]:
    """Set norms, dropout and stochastic depth to evaluation mode; all other modules stay in training mode."""
    changed = [
        module
        for module in model.modules()
        if module.training
        and (isinstance(module, _NORMS_AND_DROPOUT) or type(module).__name__ in _STOCHASTIC_DEPTH)
    ]
    for module in changed:
        module.training = False
    try:
        yield
    finally:
        for module in changed:
            module.training = True
