"""The default trainer, which builds everything from one config."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from detectron2.checkpoint import DetectionCheckpointer, ShardedCheckpointer
from detectron2.config.training_options import TrainingOptions
from detectron2.config.types import Config
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, verify_results
from detectron2.evaluation.tolerant import TolerantEvaluators
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from detectron2.utils.file_io.lock import folder_lock
from detectron2.utils.logger import setup_logger

from ..auto_batch import with_fitting_batch
from ..hooks.resume_state import collect_states
from ..model_options import (
    check_cuda_graphs,
    compile_parts,
    freeze_by_pattern,
    recompute_activations,
    trainable_table,
)
from ..run_config import run_config
from ..run_config.lengths import dataset_size, parse_length
from ..safety.interrupt import InterruptGuard
from ..setup import create_ddp_model
from ..sharding import shard_model
from ..train_loop import HookBase, SimpleTrainer, TrainerBase
from . import builders as _builders
from . import resuming as _resuming
from .precision import Precision, parse_dtype
from .writers import default_writers, writers_from_settings

__all__ = ["DefaultTrainer"]

logger = logging.getLogger(__name__)

_TO_FILE_ONLY = {"to_console": False}  # hundreds of lines would hide more important messages


class DefaultTrainer(TrainerBase):
    """Builds model, optimizer, data, schedule, checkpoints, evaluation and logs from a config.

    Takes a ``CfgNode`` or a LazyConfig. Override a ``build_*`` method to change one part::

        trainer = DefaultTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()

    Args:
        cfg: either kind of config. docs/training.md lists all options.

    Attributes:
        cfg: the config in use (scaled, with epochs converted to iterations).
        scheduler: the learning rate schedule.
        checkpointer: saves and loads checkpoints.
    """

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        log = logging.getLogger("detectron2")
        if not log.isEnabledFor(logging.INFO):  # nobody has called default_setup or setup_logger
            setup_logger()
        run = run_config(self.auto_scale_workers(cfg, comm.get_world_size()))
        settings = run.options

        model = self.build_model(run.cfg)
        _apply_model_options(model, settings)
        if settings.auto_batch:
            run = with_fitting_batch(run, model, self.build_train_loader, _precision(settings))
        sharded = settings.fsdp and comm.get_world_size() > 1
        if sharded:
            _shard(model, settings)
        optimizer = self.build_optimizer(run.cfg, model)
        data_loader = self.build_train_loader(run.cfg)
        run = run.resolved(lambda: dataset_size(data_loader))
        cfg, settings = run.cfg, run.options
        if not sharded:
            model = create_ddp_model(
                model,
                fp16_compression=settings.fp16_compression,
                broadcast_buffers=settings.broadcast_buffers,
                find_unused_parameters=settings.find_unused_parameters,
            )
        self._trainer: SimpleTrainer = _builders.build_loop(model, data_loader, optimizer, settings)
        self.cfg = cfg
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self._trainer.register_hooks([_Relay(weakref.proxy(self))])
        # A weak reference: the checkpointer belongs to the trainer, which it saves.
        saver = ShardedCheckpointer if sharded else DetectionCheckpointer
        self.checkpointer = saver(model, settings.output_dir, trainer=weakref.proxy(self))
        self.checkpointer.model_card = run.model_card()
        self.start_iter = 0
        self.max_iter = parse_length(settings.max_iter, None)
        self.register_hooks(self.build_hooks())

    # A subclass with its own __init__ must set ``cfg``, ``_trainer``, ``scheduler``, ``checkpointer``, ``start_iter`` and
    # ``max_iter``; all other attributes have defaults or follow from the config.
    _last_eval_results: Mapping[str, Any] | None = None
    _pending_hooks: Sequence[str] = ()

    @cached_property
    def settings(self) -> TrainingOptions:
        """The training options of the config."""
        return run_config(self.cfg).options

    @cached_property
    def _interrupt(self) -> InterruptGuard:
        return InterruptGuard()

    # -- resuming -----------------------------------------------------------------------------

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from the last checkpoint of the output folder, or load the initial weights.

        Args:
            resume: whether to look for a checkpoint. ``SOLVER.RESUME_MODE`` selects what to restore from it: "resume"
                restores everything, "restart-schedule" weights, optimizer state and their averages, "finetune" only
                the weights. The log lists what was restored.
        """
        _resuming.resume(self, self.settings, resume)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base class, that of the inner loop, and which hooks must still run."""
        state = super().state_dict()
        state["_trainer"] = self._trainer.state_dict()
        state["pending_hooks"] = self._unfinished_hooks()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state."""
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])
        self._pending_hooks = list(state_dict.get("pending_hooks", []))

    # -- the loop -----------------------------------------------------------------------------

    def train(self) -> Mapping[str, Any] | None:  # type: ignore[override]
        """Train to the end.

        After Ctrl-C or SIGTERM, training finishes the iteration, saves a checkpoint and stops; a second signal stops it
        at once. Several processes exchange signals every ``SOLVER.LOG_PERIOD`` iterations and stop together.

        Returns:
            The results of the last evaluation; None if there was none.

        Raises:
            FolderInUseError: if another process trains in the output folder.
        """
        mine = folder_lock(self.settings.output_dir) if comm.is_main_process() else nullcontext()
        with mine, self._interrupt:
            super().train(self.start_iter, self.max_iter)
        if run_config(self.cfg).expected_results and comm.is_main_process():
            if self._last_eval_results is None:
                raise AssertionError("TEST.EXPECTED_RESULTS is set, but no evaluation ran in this training")
            verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def before_train(self) -> None:
        """Call the hooks, then repeat those that had not finished when the checkpoint was written."""
        super().before_train()
        self._replay_hooks()

    def run_step(self) -> None:
        """Run one iteration of the inner loop."""
        self._trainer.iter, self._trainer.max_iter = self.iter, self.max_iter
        self._trainer.run_step()

    def after_step(self) -> None:
        """Call the hooks, then stop if a signal was received."""
        super().after_step()
        signal = self._interrupt.agreed(self.iter, self.settings.log_period)
        if signal:
            collect_states(self)
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
            logger.warning(
                "Stopped by %s after iteration %d; --resume continues from here.", signal, self.iter
            )
            raise KeyboardInterrupt(signal)

    def _unfinished_hooks(self) -> list[str]:
        """Return the hooks that have not run in this iteration and must run again after resuming."""
        if self._hooks_done is None:
            return []
        return [
            name for name, hook in list(self.named_hooks().items())[self._hooks_done :] if hook.runs_again
        ]

    def _replay_hooks(self) -> None:
        """Run the hooks, such as an evaluation, that had not run when the checkpoint was written.

        Their states (best value, patience) then equal those of a run that was not interrupted.
        """
        names, self._pending_hooks = self._pending_hooks, ()
        if not names or self.start_iter == 0 or self.start_iter >= self.max_iter:
            return
        self.iter = self.storage.iter = self.start_iter - 1
        for name, hook in self.named_hooks().items():
            if name in names:
                hook.after_step()
        self.iter = self.storage.iter = self.start_iter

    # -- parts, to be overridden --------------------------------------------------------------

    def build_hooks(self) -> list[HookBase]:
        """Build the hooks, in the order in which they run."""
        return _builders.build_hooks(self)

    def build_writers(self) -> list[EventWriter]:
        """Build the writers of the main process; docs/training.md lists those that a config can add."""
        base = default_writers(self.settings.output_dir, self.max_iter)
        return writers_from_settings(self.settings, self.cfg, base)

    @classmethod
    def build_model(cls, cfg: Config) -> nn.Module:
        """Build the model, on its device."""
        model = run_config(cfg).model()
        logger.info("Model:\n%s", model, extra=_TO_FILE_ONLY)
        return model

    @classmethod
    def build_optimizer(cls, cfg: Config, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer."""
        return run_config(cfg).optimizer(model)

    @classmethod
    def build_lr_scheduler(cls, cfg: Config, optimizer: torch.optim.Optimizer) -> LRScheduler:
        """Build the learning rate schedule."""
        return run_config(cfg).schedule(optimizer)

    @classmethod
    def build_train_loader(cls, cfg: Config) -> Iterable[Any]:
        """Build the endless stream of training batches."""
        return run_config(cfg).train_loader()

    @classmethod
    def build_test_loader(cls, cfg: Config, dataset_name: str) -> Iterable[Any]:
        """Build the loader of one test dataset."""
        return run_config(cfg).test_loader(dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: Config, dataset_name: str) -> DatasetEvaluator:
        """Build the evaluator of one test dataset; a ``CfgNode`` uses the ``evaluator_type`` of its metadata."""
        return run_config(cfg).evaluator(dataset_name)

    @classmethod
    def test(
        cls,
        cfg: Config,
        model: nn.Module,
        evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None,
    ) -> Mapping[str, Any]:
        """Evaluate a model on all test datasets of a config.

        Args:
            cfg: either kind of config.
            model: the model; its mode is restored.
            evaluators: one for each dataset; None builds them from the config.

        Returns:
            Results by dataset, or the results themselves if there is only one dataset.

        Raises:
            ValueError: if the numbers of evaluators and datasets differ.
            TypeError: if an evaluator returns no dictionary on the main process.
        """
        names = run_config(cfg).test_names
        given = [evaluators] if isinstance(evaluators, DatasetEvaluator) else evaluators
        if given is not None and len(given) != len(names):
            raise ValueError(f"{len(names)} test datasets need as many evaluators, got {len(given)}")
        results: dict[str, Any] = {}
        for i, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            evaluator = given[i] if given is not None else cls._evaluator(cfg, name)
            results[name] = {} if evaluator is None else inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                _show_results(name, results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @classmethod
    def _evaluator(cls, cfg: Config, name: str) -> DatasetEvaluator | None:
        """Build the evaluator, or return None with a warning if there is none; errors of a default one are tolerated."""
        try:
            evaluator = cls.build_evaluator(cfg, name)
        except NotImplementedError as error:
            logger.warning("No evaluation: %s", error)
            return None
        chosen = cls.build_evaluator.__func__ is not DefaultTrainer.build_evaluator.__func__  # type: ignore[attr-defined]
        return evaluator if chosen else TolerantEvaluators(evaluator, name)

    @staticmethod
    def auto_scale_workers(cfg: Config, num_workers: int) -> Config:
        """Scale batch size, learning rate and lengths to another number of processes.

        Only if ``SOLVER.REFERENCE_WORLD_SIZE`` is neither 0 nor ``num_workers``. Each process keeps its number of images,
        the learning rate grows with the batch size, and training sees the same number of images
        (Goyal et al., https://arxiv.org/abs/1706.02677).

        Args:
            cfg: either kind of config.
            num_workers: number of processes of this run.

        Returns:
            A changed copy, or ``cfg`` itself if there is nothing to change.
        """
        return run_config(cfg).scaled_to(num_workers).cfg

    # -- access to the inner loop -------------------------------------------------------------

    @property
    def data_loader(self) -> Iterable[Any]:
        """The training data."""
        return self._trainer.data_loader

    @property
    def model(self) -> nn.Module:
        """The model, inside DDP if there are several processes."""
        return self._trainer.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer."""
        return self._trainer.optimizer

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        return self._trainer._data_loader_iter


class _Relay(HookBase):
    """Passes ``after_backward`` from the inner loop to the hooks of the trainer."""

    def __init__(self, outer: TrainerBase) -> None:
        self._outer = outer

    def after_backward(self) -> None:
        self._outer.after_backward()


def _apply_model_options(model: nn.Module, s: TrainingOptions) -> None:
    """Apply freezing, recomputation of activations, memory format and compilation, in this order."""
    if s.freeze:
        names = freeze_by_pattern(model, s.freeze)
        logger.info("%d parameters are frozen by SOLVER.FREEZE.", len(names))
    logger.info("Parameters:\n%s", trainable_table(model), extra=_TO_FILE_ONLY)
    if s.activation_checkpoint:
        count = recompute_activations(model, s.activation_checkpoint)
        logger.info("%d modules recompute their activations in the backward pass.", count)
    if s.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if s.cuda_graphs:
        check_cuda_graphs(model, s.device)
        compile_parts(model, [""], "reduce-overhead")  # the mode that records them
    elif s.compile:
        compile_parts(model, s.compile_parts, s.compile_mode)


def _shard(model: nn.Module, s: TrainingOptions) -> None:
    """Shard the model over the processes instead of copying it to each."""
    if s.amp and parse_dtype(s.amp_dtype) == torch.float16:
        raise ValueError(
            "SOLVER.FSDP does not support float16, whose loss scaler sees only the shards of one process; set "
            "SOLVER.AMP.DTYPE bfloat16"
        )
    names = shard_model(model, s.fsdp_parts)
    logger.info(
        "The model is sharded over %d processes; %d modules are gathered separately: %s",
        comm.get_world_size(),
        len(names),
        ", ".join(names),
    )


def _precision(s: TrainingOptions) -> Precision:
    """Return the precision of trial steps: that of training, without a loss scaler."""
    dtype = parse_dtype(s.amp_dtype) if s.amp else torch.float32
    return Precision(dtype, torch.device(s.device).type, scaler=False)


def _show_results(name: str, results: object) -> None:
    """Log the results of one dataset in CSV format."""
    if not isinstance(results, Mapping):
        raise TypeError(f"the evaluator of {name} must return a dict on the main process, got {results!r}")
    logger.info("Evaluation results for %s in csv format:", name)
    print_csv_format(results)
