"""Parts of a training from either kind of config."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from detectron2 import modeling, solver
from detectron2.config.instantiate import instantiate
from detectron2.data import DatasetMapper, build_detection_test_loader
from detectron2.data import transforms as T
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.evaluation.build import build_evaluator as evaluator_for
from detectron2.solver.param_scheduler import ParamScheduler
from detectron2.utils import comm

from .. import hooks
from ..hooks.ema import EMAHook
from ..run_config.lengths import parse_length
from ..run_config.settings import Settings, is_lazy, lookup
from ..sharding import whole_weights
from ..train_loop import HookBase

if TYPE_CHECKING:
    from .default import DefaultTrainer

__all__ = [
    "build_evaluator",
    "build_hooks",
    "build_loader",
    "build_lr_scheduler",
    "build_model",
    "build_optimizer",
    "test",
    "test_names",
    "without_workers",
]

logger = logging.getLogger(__name__)


def build_model(cfg: Any) -> nn.Module:
    """The model on its device."""
    if is_lazy(cfg):
        model: nn.Module = instantiate(cfg.model)
        return model.to(lookup(cfg, "train.device", "cuda"))
    return modeling.build_model(cfg)


def build_optimizer(cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over the model's parameters."""
    if not is_lazy(cfg):
        return solver.build_optimizer(cfg, model)
    # The config stays free of the model: it is printed, saved and used again.
    node = {key: cfg.optimizer[key] for key in cfg.optimizer}
    params = {key: cfg.optimizer.params[key] for key in cfg.optimizer.params}
    node["params"] = instantiate({**params, "model": model})
    return instantiate(node)


def build_lr_scheduler(cfg: Any, optimizer: torch.optim.Optimizer) -> Any:
    """The schedule that drives the optimizer."""
    if not is_lazy(cfg):
        return solver.build_lr_scheduler(cfg, optimizer)
    curve = instantiate(cfg.lr_multiplier)
    if not isinstance(curve, ParamScheduler):
        return curve
    return solver.LRMultiplier(optimizer, curve, parse_length(cfg.train.max_iter, None))


def build_loader(
    cfg: Any, part: str, build: Callable[..., Iterable[Any]], dataset_name: str | None = None
) -> Iterable[Any]:
    """The train or test loader."""
    if is_lazy(cfg):
        return instantiate(cfg.dataloader[part])
    return build(cfg) if dataset_name is None else build(cfg, dataset_name)


def test_names(cfg: Any) -> list[str]:
    """Names of the test data sets; empty when a config has none."""
    if not is_lazy(cfg):
        return list(cfg.DATASETS.TEST)
    if lookup(cfg, "dataloader.test", None) is None or lookup(cfg, "dataloader.evaluator", None) is None:
        return []
    names = lookup(cfg, "dataloader.test.dataset.names", "test")
    return [names] if isinstance(names, str) else [", ".join(names)]


def build_evaluator(cfg: Any, dataset_name: str) -> DatasetEvaluator:
    """The evaluator of a test data set."""
    if is_lazy(cfg):
        return instantiate(cfg.dataloader.evaluator)
    return evaluator_for(cfg, dataset_name)


def test(
    cls: type[DefaultTrainer],
    cfg: Any,
    model: nn.Module,
    evaluators: DatasetEvaluator | list[DatasetEvaluator] | None,
    show: Callable[[Any], None],
) -> Mapping[str, Any]:
    """See `DefaultTrainer.test`."""
    names = test_names(cfg)
    given = [evaluators] if isinstance(evaluators, DatasetEvaluator) else evaluators
    if given is not None and len(given) != len(names):
        raise ValueError(f"{len(names)} test data sets need as many evaluators, got {len(given)}")
    results: dict[str, Any] = {}
    for i, name in enumerate(names):
        loader = cls.build_test_loader(cfg, name)
        evaluator = given[i] if given is not None else cls.build_evaluator(cfg, name)
        found = inference_on_dataset(model, loader, evaluator)
        results[name] = found
        if comm.is_main_process():
            if not isinstance(found, Mapping):
                raise TypeError(
                    f"the evaluator of {name} must return a dict on the main process, got {found!r}"
                )
            logger.info("Evaluation results for %s in csv format:", name)
            show(found)
    return next(iter(results.values())) if len(results) == 1 else results


def build_hooks(trainer: DefaultTrainer) -> list[HookBase]:
    """See `DefaultTrainer.build_hooks`.

    The order matters: statistics and averages before the checkpoint that holds them, the
    checkpoint before an evaluation that may fail, figures before those who read them.
    """
    s: Settings = trainer.settings
    period = _Periods(s)
    found: list[Any] = [hooks.IterationTimer(), hooks.LRScheduler()]
    ema = None
    if s.ema:
        ema = EMAHook(trainer.model, s.ema_decay, s.ema_evaluate, trainer.checkpointer)
        found.append(ema)
    if s.precise_bn and hooks.get_bn_modules(trainer.model):
        # A loader of its own, so that the training's data order does not depend on it.
        loader = trainer.build_train_loader(without_workers(trainer.cfg))
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
        found.append(
            hooks.EarlyStopping(watched, s.stop_metric, s.stop_mode, s.stop_patience, s.stop_min_delta)
        )
    if s.report_period != 0:
        found.append(hooks.ReportWriter(period.report))
    return found


class _Periods:
    """Periods as iterations."""

    def __init__(self, s: Settings) -> None:
        self.checkpoint = parse_length(s.checkpoint_period, None)
        self.evaluation = parse_length(s.eval_period, None)
        self.validation = parse_length(s.val_loss_period, None)
        report = parse_length(s.report_period, None)
        # By itself the page follows the evaluations, or else the checkpoints.
        self.report = report if report > 0 else (self.evaluation or self.checkpoint)


def _evaluation_hooks(
    trainer: DefaultTrainer, s: Settings, period: _Periods, ema: EMAHook | None
) -> list[Any]:
    """Evaluation, validation loss and the best checkpoint."""
    # The hook must not keep the trainer alive; a registered hook's trainer is a weak reference anyway.
    me = weakref.proxy(trainer)

    def evaluate() -> Mapping[str, Any]:
        averaged = ema.applied() if ema is not None and ema.evaluate else nullcontext()
        with averaged, whole_weights(me.model):
            me._last_eval_results = me.test(me.cfg, me.model)
        return me._last_eval_results

    found: list[Any] = [hooks.EvalHook(period.evaluation, evaluate)]
    if period.validation:
        names = test_names(trainer.cfg)
        if not names:
            raise ValueError("a validation loss needs a test data set (DATASETS.TEST or dataloader.test)")
        loader = validation_loader(trainer.cfg, names)
        found.append(hooks.ValidationLoss(period.validation, trainer.model, loader, s.val_loss_batches))
    if s.best_metric:
        watched = period.validation if s.best_metric.startswith("val/") else period.evaluation
        best = hooks.BestCheckpointer(watched, trainer.checkpointer, s.best_metric, s.best_mode)
        best.everywhere = comm.get_world_size() > 1
        found.append(best)
    return found


def without_workers(cfg: Any) -> Any:
    """The same data read in this process."""
    if is_lazy(cfg):
        copy = cfg.copy()
        copy.dataloader.train.num_workers = 0
        return copy
    copy = cfg.clone()
    copy.defrost()
    copy.DATALOADER.NUM_WORKERS = 0
    return copy


def validation_loader(cfg: Any, names: list[str]) -> Iterable[Any]:
    """Test images with their annotations, resized as for testing, nothing random."""
    if is_lazy(cfg):
        node = cfg.dataloader.test.copy()
        mapper = cfg.dataloader.train.mapper.copy()
        mapper.augmentations = cfg.dataloader.test.mapper.augmentations
        node.mapper = mapper
        return instantiate(node)
    size = cfg.INPUT.MIN_SIZE_TEST
    resize = T.ResizeShortestEdge([size, size], cfg.INPUT.MAX_SIZE_TEST)
    return build_detection_test_loader(
        cfg, names, mapper=DatasetMapper(cfg, is_train=True, augmentations=[resize])
    )
