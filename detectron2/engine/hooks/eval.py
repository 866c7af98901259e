"""Evaluation and validation loss while training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.env import rng_state, set_rng_state

from ..sharding import whole_weights
from ..train_loop import HookBase

__all__ = ["EvalHook", "ValidationLoss", "undisturbed_rng"]


@contextmanager
def undisturbed_rng() -> Iterator[None]:
    """Leaves the random generators as they were.

    What runs inside cannot change the training, so that a run resumed from a checkpoint taken
    before an evaluation equals one that was not interrupted.
    """
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


class EvalHook(HookBase):
    """Runs an evaluation every so many iterations and puts its figures into the storage.

    All processes run it and wait for each other.

    Args:
        eval_period: iterations between two evaluations; 0 for none before the end.
        eval_function: takes nothing and returns nested dicts of numbers, or nothing. Nested names
            are joined by `/`.
        eval_after_train: evaluate at the end of a complete training too.
    """

    runs_again = True

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], Mapping[str, Any] | None],
        eval_after_train: bool = True,
    ) -> None:
        self._period = eval_period
        self._func: Callable[[], Mapping[str, Any] | None] | None = eval_function
        self._eval_after_train = eval_after_train
        self._done_at: int | None = None

    def _do_eval(self) -> None:
        assert self._func is not None
        with undisturbed_rng():
            results = self._func()
        if results:
            if not isinstance(results, Mapping):
                raise TypeError(f"an evaluation must return a dict or nothing, got {type(results).__name__}")
            flat = flatten_results_dict(dict(results))
            for name, value in flat.items():
                try:
                    flat[name] = float(value)
                except (TypeError, ValueError):
                    raise ValueError(
                        f"an evaluation must return numbers in nested dicts; {name} is {value!r}"
                    ) from None
            self.trainer.storage.put_scalars(**flat, smoothing_hint=False)
        # Processes may take unequal time; none may run into a time-out of the next collective.
        comm.synchronize()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._do_eval()
            self._done_at = done

    def after_train(self) -> None:
        complete = self.trainer.iter + 1 >= self.trainer.max_iter
        # A training that ended early has been evaluated where it ended.
        if self._eval_after_train and complete and self._done_at != self.trainer.iter:
            self._do_eval()
        # The function often holds the trainer, and with it the model.
        self._func = None


class ValidationLoss(HookBase):
    """Puts the mean losses on held-out data into the storage, as `val/total_loss` and `val/<loss>`.

    The model computes losses in training mode only, so it stays in it, without gradients; batch
    statistics and dropout are put into evaluation mode meanwhile. The same images are taken each
    time, with the same random samples.

    Args:
        period: iterations between two computations; 0 for none before the end.
        model: the model.
        data_loader: finite loader of batches with annotations; each process reads its part.
        max_batches: how many of them at most; 0 for all.
        prefix: put before the names.
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
        self._period = period
        self._model = model
        self._loader = data_loader
        self._max_batches = max_batches
        self._prefix = prefix
        self._done_at: int | None = None

    def compute(self) -> dict[str, float]:
        """Mean of each loss over the data of all processes."""
        sums: dict[str, float] = {}
        count = 0
        # The module inside DDP: its wrapper would communicate, and processes differ in batch counts.
        inner = getattr(self._model, "module", self._model)
        with undisturbed_rng(), torch.no_grad(), _frozen_statistics(inner), whole_weights(inner):
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

    def _do(self) -> None:
        for name, value in self.compute().items():
            self.trainer.storage.put_scalar(self._prefix + name, value, smoothing_hint=False)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._do()
            self._done_at = done

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter and self._done_at != self.trainer.iter:
            self._do()


_STATEFUL = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


@contextmanager
def _frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Puts norms and dropout into evaluation mode, everything else stays in training mode."""
    changed = [m for m in model.modules() if isinstance(m, _STATEFUL) and m.training]
    for module in changed:
        module.training = False
    try:
        yield
    finally:
        for module in changed:
            module.training = True
