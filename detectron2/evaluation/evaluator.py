"""The interface of evaluators, and the inference loop that passes them a model's outputs."""

from __future__ import annotations

import datetime
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import nn

from detectron2.utils.comm import get_world_size, is_main_process
from detectron2.utils.errors import BadValue
from detectron2.utils.logger import log_every_n_seconds

from .progress.clock import StageClock, progress_bar

__all__ = [
    "DatasetEvaluator",
    "DatasetEvaluators",
    "Progress",
    "get_world_size",
    "inference_context",
    "inference_on_dataset",
    "is_main_process",
    "log_every_n_seconds",
]

_LOG_EVERY_SECONDS = 5
_WARMUP_BATCHES = 5


class Loader(Protocol):
    """An iterable of batches with a length."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class DatasetEvaluator:
    """Computes metrics from the outputs of a model on a dataset.

    A run calls ``reset()``, then ``process(inputs, outputs)`` for each batch, then ``evaluate()``.
    Subclasses override all three.
    """

    def reset(self) -> None:
        """Prepare for a new run."""

    def process(self, inputs: Any, outputs: Any) -> None:
        """Process one batch.

        Args:
            inputs: the inputs of the model, usually a list of dicts, one per image.
            outputs: the outputs of the model, usually a list of dicts, parallel to ``inputs``.
        """

    def evaluate(self) -> Mapping[str, Any] | None:
        """Compute the metrics of all batches processed since ``reset()``.

        In a distributed run every rank calls this; ranks other than the first may return None.

        Returns:
            ``{task: {metric: value}}``, or None if there are no results.
        """


class DatasetEvaluators(DatasetEvaluator):
    """Runs several evaluators on the same batches, and merges their results into one dict."""

    def __init__(self, evaluators: Iterable[DatasetEvaluator]) -> None:
        """
        Args:
            evaluators: the evaluators to run, in this order.
        """
        super().__init__()
        self._evaluators = list(evaluators)

    @property
    def parts(self) -> list[DatasetEvaluator]:
        """The evaluators."""
        return list(self._evaluators)

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def has_finished_process(self) -> bool:
        """Return whether every evaluator has seen enough batches; one without this method never has."""
        answers = (getattr(evaluator, "has_finished_process", None) for evaluator in self._evaluators)
        return bool(self._evaluators) and all(answer is not None and answer() for answer in answers)

    def evaluate(self) -> OrderedDict[str, Any]:
        """Merge the results of all evaluators, on the main process.

        Raises:
            ValueError: if two evaluators report the same task.
        """
        joined: OrderedDict[str, Any] = OrderedDict()
        for evaluator in self._evaluators:
            result = evaluator.evaluate()
            if result is None or not is_main_process():
                continue
            clash = joined.keys() & result.keys()
            if clash:
                raise BadValue(
                    f"two evaluators report {sorted(clash)}; the second is {type(evaluator).__name__}. "
                    "Give each evaluator different tasks (COCOEvaluator(tasks=...)), or run them separately."
                )
            joined.update(result)
        return joined


class Progress:
    """Tracks which batches an evaluation still has to run. This class stores nothing.

    :func:`resumable_evaluation` replaces it by one that saves each batch.
    """

    def remaining(self, loader: Any) -> Loader:
        """Return a loader of the batches that are not done."""
        batches: Loader = loader
        return batches

    def without_done(self, inputs: Any, outputs: Any) -> tuple[Any, Any]:
        """Return the part of a batch, and of the model's outputs for it, that is not done."""
        return inputs, outputs

    def add(self, inputs: Any) -> None:
        """Save the evaluators' results of a batch."""

    def close(self) -> None:
        """Release resources, after the last batch or an error."""


StartProgress = Callable[[Any, Any, DatasetEvaluator], Progress]
start_progress: ContextVar[StartProgress] = ContextVar("start_progress", default=lambda *_: Progress())
"""Creates the progress of an evaluation from the model, the loader and the evaluator."""


@contextmanager
def inference_context(model: nn.Module) -> Generator[None, None, None]:
    """Set ``model`` to evaluation mode for a ``with`` block, and restore the mode of each sub-module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Iterable[Any],
    evaluator: DatasetEvaluator | Sequence[DatasetEvaluator] | None,
    callbacks: Mapping[str, Callable[[], None]] | None = None,
) -> Mapping[str, Any]:
    """Run ``model`` over ``data_loader`` without gradients and evaluate its outputs.

    The time of each stage (waiting for data, model, evaluator) is logged; on a terminal, the main process also shows a
    progress bar. Within :func:`resumable_evaluation`, the results of each batch are saved, and saved batches are
    skipped.

    Args:
        model: a module, which is set to evaluation mode meanwhile, or any callable that takes a batch.
        data_loader: yields batches; must have a length.
        evaluator: one evaluator, several, or None to only run and time the model.
        callbacks: functions without arguments by the names ``on_start``, ``before_inference`` and
            ``after_inference`` (both called once per batch) and ``on_end``.

    Returns:
        The result of ``evaluator.evaluate()``; an empty dict in place of None.
    """
    if evaluator is None:
        evaluator = DatasetEvaluators([])
    elif not isinstance(evaluator, DatasetEvaluator) and isinstance(evaluator, Iterable):
        evaluator = DatasetEvaluators(evaluator)
    evaluator.reset()

    hooks = _Callbacks(callbacks)
    mode = inference_context(model) if isinstance(model, nn.Module) else nullcontext()
    with mode, torch.no_grad():
        hooks("on_start")
        progress = start_progress.get()(model, data_loader, evaluator)
        try:
            clock = _feed(model, progress.remaining(data_loader), evaluator, hooks, progress)
        finally:
            progress.close()
        hooks("on_end")
    _report(clock)
    results = evaluator.evaluate()
    return {} if results is None else results


class _Callbacks:
    """Calls optional callbacks by name."""

    NAMES = ("on_start", "before_inference", "after_inference", "on_end")

    def __init__(self, callbacks: Mapping[str, Callable[[], None]] | None) -> None:
        self._callbacks = dict(callbacks or {})
        unknown = sorted(set(self._callbacks) - set(self.NAMES))
        if unknown:
            raise ValueError(f"unknown callbacks {unknown}; known are {list(self.NAMES)}")

    def __call__(self, name: str) -> None:
        if name in self._callbacks:
            self._callbacks[name]()


def _feed(
    model: Callable[[Any], Any],
    loader: Loader,
    evaluator: DatasetEvaluator,
    hooks: _Callbacks,
    progress: Progress,
) -> StageClock:
    """Run data loader, model and evaluator for all batches; return the clock that timed them."""
    total = len(loader)
    logger = logging.getLogger(__name__)
    logger.info("Inference on %d batches begins", total)
    clock = StageClock(total, warmup=min(_WARMUP_BATCHES, total - 1))
    last_log = time.perf_counter()
    with progress_bar(total, "Inference", enabled=is_main_process()) as bar:
        clock.start()
        for inputs in loader:
            clock.lap("data")
            hooks("before_inference")
            outputs = model(inputs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # else the evaluator's time would include the model's
            hooks("after_inference")
            clock.lap("model")
            inputs, outputs = progress.without_done(inputs, outputs)
            evaluator.process(inputs, outputs)
            progress.add(inputs)
            clock.lap("evaluator")
            clock.next_batch()
            bar.advance(clock.status())
            now = time.perf_counter()
            if clock.counted and now - last_log >= _LOG_EVERY_SECONDS and not bar.visible:
                last_log = now
                logger.info("Inference %d/%d. %s", clock.done, total, clock.status())
    return clock


def _report(clock: StageClock) -> None:
    """Log total time and time per batch of a finished run."""
    logger = logging.getLogger(__name__)
    wall = datetime.timedelta(seconds=int(clock.elapsed()))
    logger.info(
        "Inference on %d batches took %s (%.6f s per batch on each of %d processes): %s",
        clock.done, wall, clock.seconds_per_batch(), get_world_size(), clock.stage_report(),
    )  # fmt: skip
