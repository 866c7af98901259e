"""Building the inner loop and the hooks of the default trainer from its options."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config.training_options import TrainingOptions
from detectron2.config.types import Config
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from .. import hooks
from ..hooks.ema import EMAHook
from ..run_config import run_config
from ..run_config.lengths import parse_length
from ..safety.guard import StepGuard
from ..sharding import whole_weights
from ..train_loop import AMPTrainer, HookBase, SimpleTrainer
from .precision import parse_dtype

__all__ = ["HookSource", "build_hooks", "build_loop"]

logger = logging.getLogger("detectron2.engine")


class HookSource(Protocol):
    """The part of a trainer that its hooks need."""

    cfg: Config
    checkpointer: DetectionCheckpointer
    _last_eval_results: Mapping[str, Any] | None

    @property
    def settings(self) -> TrainingOptions:
        """The training options."""

    @property
    def model(self) -> nn.Module:
        """The model in training."""

    def build_train_loader(self, cfg: Config) -> Iterable[Any]:
        """Build an endless stream of training batches."""

    def build_writers(self) -> list[EventWriter]:
        """Build the writers of the main process."""

    @classmethod
    def build_model(cls, cfg: Config) -> nn.Module:
        """Build a model, on its device."""

    @classmethod
    def test(cls, cfg: Config, model: nn.Module) -> Mapping[str, Any]:
        """Evaluate a model."""


def build_loop(
    model: nn.Module, loader: Iterable[Any], optimizer: torch.optim.Optimizer, s: TrainingOptions
) -> SimpleTrainer:
    """Build the inner loop with its options."""
    loop: SimpleTrainer
    if s.amp:
        loop = AMPTrainer(model, loader, optimizer, precision=parse_dtype(s.amp_dtype))
    else:
        loop = SimpleTrainer(model, loader, optimizer)
    if s.accumulate_steps < 1:
        raise ValueError(f"SOLVER.ACCUMULATE_STEPS must be at least 1, got {s.accumulate_steps}")
    loop.accumulate_steps = s.accumulate_steps
    loop.metric_window = s.log_period
    loop.guard = StepGuard(s.output_dir if s.keep_bad_batch else None, s.skip_bad_steps, s.oom_retry)
    return loop


def build_hooks(trainer: HookSource) -> list[HookBase]:
    """See ``DefaultTrainer.build_hooks``.

    The order matters: statistics and averages come before the checkpoint that contains them, the checkpoint before an
    evaluation that may fail, metrics before the hooks that read them.
    """
    s = trainer.settings
    period = _Periods(s)
    found: list[Any] = [hooks.IterationTimer(), hooks.LRScheduler()]
    ema = None
    if s.ema:
        ema = EMAHook(trainer.model, s.ema_decay, s.ema_evaluate, trainer.checkpointer)
        found.append(ema)
    if s.precise_bn and hooks.get_bn_modules(trainer.model):
        # A separate loader, so that it does not change the order of the training data.
        loader = trainer.build_train_loader(run_config(trainer.cfg).in_this_process().cfg)
        found.append(hooks.PreciseBN(period.evaluation, trainer.model, loader, s.precise_bn_iters))
    found.append(hooks.ResumeState(period.checkpoint))
    keep = s.checkpoint_keep or None
    found.append(hooks.PeriodicCheckpointer(trainer.checkpointer, period.checkpoint, max_to_keep=keep))
    found += _evaluation_hooks(trainer, s, period, ema)
    if comm.is_main_process():
        found.append(hooks.PeriodicWriter(trainer.build_writers(), period=s.log_period))
        found.append(hooks.ProgressBar(s.progress_bar, s.log_period))
    if s.stop_metric:
        watched = period.validation if s.stop_metric.startswith("val/") else period.evaluation
        stop = hooks.EarlyStopping(watched, s.stop_metric, s.stop_mode, s.stop_patience, s.stop_min_delta)
        _follow(found, stop, s.stop_metric)
        found.append(stop)
    if s.report_period != 0:
        found.append(hooks.ReportWriter(period.report))
    return found


def _follow(found: Iterable[HookBase], hook: hooks.PeriodicHook, metric: str) -> None:
    """Let a hook that reads a metric of evaluations run when these have arrived, if they are asynchronous."""
    for other in found:
        if isinstance(other, hooks.AsyncEvalHook) and not metric.startswith("val/"):
            other.lead(hook)


class _Periods:
    """The periods of the hooks in iterations."""

    def __init__(self, s: TrainingOptions) -> None:
        self.checkpoint = parse_length(s.checkpoint_period, None)
        self.evaluation = parse_length(s.eval_period, None)
        self.validation = parse_length(s.val_loss_period, None)
        report = parse_length(s.report_period, None)
        # By default a report follows each evaluation, or else each checkpoint.
        self.report = report if report > 0 else (self.evaluation or self.checkpoint)


def _evaluation_hooks(
    trainer: HookSource, s: TrainingOptions, period: _Periods, ema: EMAHook | None
) -> list[Any]:
    """Build the hooks for evaluation, validation loss and the best checkpoint."""
    # A weak reference, because the hook must not keep the trainer alive.
    me = weakref.proxy(trainer)

    def evaluate() -> Mapping[str, Any]:
        averaged = ema.applied() if ema is not None and ema.evaluate else nullcontext()
        with averaged, whole_weights(me.model):
            me._last_eval_results = me.test(me.cfg, me.model)
        return me._last_eval_results

    apart = _asynchronous(trainer, s, period, ema)
    found: list[Any] = [apart or hooks.EvalHook(period.evaluation, evaluate)]
    if period.validation:
        run = run_config(trainer.cfg)
        if not run.test_names:
            raise ValueError(
                "a validation loss needs a test dataset (DATASETS.TEST or dataloader.test), got none"
            )
        loader = run.validation_loader()
        found.append(hooks.ValidationLoss(period.validation, trainer.model, loader, s.val_loss_batches))
    if s.best_metric:
        watched = period.validation if s.best_metric.startswith("val/") else period.evaluation
        best = hooks.BestCheckpointer(
            watched,
            trainer.checkpointer,
            s.best_metric,
            s.best_mode,
            ema=ema if s.ema_evaluate else None,
            everywhere=comm.get_world_size() > 1,
            weights=None if apart is None or s.best_metric.startswith("val/") else apart.weights,
        )
        _follow(found, best, s.best_metric)
        found.append(best)
    return found


def _asynchronous(
    trainer: HookSource, s: TrainingOptions, period: _Periods, ema: EMAHook | None
) -> hooks.AsyncEvalHook | None:
    """Build the hook that evaluates in a second process; None if evaluations stay within the training."""
    if not s.eval_async:
        return None
    if not s.eval_device and torch.device(s.device).type == "cpu":
        logger.info(
            "TEST.ASYNC is off: a second process would take the cores of the training. TEST.ASYNC.DEVICE cpu insists."
        )
        return None
    me = weakref.proxy(trainer)
    run = run_config(trainer.cfg).copied()
    device, first = _evaluation_device(s)
    with run.thawed():
        run.put(device=device)

    def save(name: str) -> None:
        with ema.applied() if ema is not None and ema.evaluate else nullcontext():
            me.checkpointer.export(name)

    def keep(results: Mapping[str, Any]) -> None:
        me._last_eval_results = results

    return hooks.AsyncEvalHook(
        period.evaluation,
        save,
        partial(_evaluate_file, type(trainer), run.cfg),
        folder=s.output_dir,
        datasets=lambda: hooks.datasets_for_another_process(run.test_names),
        poll_period=s.log_period,
        on_results=keep,
        processes=s.eval_processes,
        first_device=first,
    )


def _evaluation_device(s: TrainingOptions) -> tuple[str, int | None]:
    """Return the device of a model that is evaluated beside the training, and the first of several GPUs."""
    device = torch.device(s.eval_device or s.device)
    if s.eval_processes == 1 or device.type != "cuda":
        return str(device), None
    first = comm.get_local_size() if device.index is None else device.index
    if first + s.eval_processes > torch.cuda.device_count():
        raise ValueError(
            f"TEST.ASYNC.PROCESSES {s.eval_processes} needs the GPUs {first} to {first + s.eval_processes - 1}, but "
            f"there are {torch.cuda.device_count()}: train on fewer, or lower it"
        )
    return "cuda", first  # each process sees only its own


def _evaluate_file(kind: type[HookSource], cfg: Config, path: str) -> Mapping[str, Any]:
    """Evaluate a file of weights in another process."""
    model = kind.build_model(cfg)
    DetectionCheckpointer(model).load(path)
    return kind.test(cfg, model)
