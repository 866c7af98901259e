"""The table of training options: name in either kind of config, default, and meaning.

The yacs defaults, the names in Python configs, the keys that accept epochs, and the table in ``docs/training.md`` are
all derived from :class:`TrainingOptions`. To add an option, add a line there; ``tests/engine/test_settings.py`` prints
the new row of the documented table.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

__all__ = ["LENGTH_KEYS", "OPTIONS", "YACS_LENGTHS", "Length", "Option", "TrainingOptions"]

T = TypeVar("T")
Length = int | str
"""A number of iterations, or of epochs as text: ``"12ep"``."""

YACS_LENGTHS = ("SOLVER.WARMUP_ITERS", "SOLVER.STEPS")
"""Lengths that only yacs-style configs have: schedules of Python configs are relative to the training length."""


@dataclass(frozen=True)
class Option:
    """One row of the table.

    Attributes:
        key: dotted key in a yacs-style config.
        lazy: dotted path in a Python config.
        default: value if a config has none.
        meaning: one line of Markdown.
        is_length: whether it may be given in epochs, and scales with the length of the training.
    """

    key: str
    lazy: str
    default: object
    meaning: str
    is_length: bool = False


def option(key: str, lazy: str, default: T, meaning: str, *, is_length: bool = False) -> T:
    """Declare a field of :class:`TrainingOptions`; see :class:`Option`."""
    row = Option(key, lazy, default, meaning, is_length)
    declared: Any = field(default_factory=lambda: copy.copy(default), metadata={"option": row})
    return declared  # type: ignore[no-any-return]


def length(key: str, lazy: str, default: Length, meaning: str) -> Length:
    """Declare an option that counts iterations or epochs."""
    return option(key, lazy, default, meaning, is_length=True)


@dataclass
class TrainingOptions:
    """Options of a training from either kind of config."""

    # One option per line; each is a dataclass field, which ruff cannot know.
    # fmt: off
    # ruff: noqa: RUF009
    output_dir: str = option("OUTPUT_DIR", "train.output_dir", "./output", "folder of the training")
    weights: str = option("MODEL.WEIGHTS", "train.init_checkpoint", "", "weights to start from: a file, a URL or a name of the model zoo")
    device: str = option("MODEL.DEVICE", "train.device", "cuda", "device of the model")
    seed: int = option("SEED", "train.seed", -1, "seed of all random generators; -1: a new one for each run")
    deterministic: bool = option("DETERMINISTIC", "train.deterministic", False, "bit-identical runs: seeded, with deterministic operators only")
    cudnn_benchmark: bool = option("CUDNN_BENCHMARK", "train.cudnn_benchmark", False, "let cuDNN search for the fastest kernels; helps if images have few sizes")
    float32_precision: str = option("FLOAT32_PRECISION", "train.float32_precision", "", "precision of float32 matrix products: highest, high or medium; empty: torch's setting")
    max_iter: Length = length("SOLVER.MAX_ITER", "train.max_iter", 40000, "iterations, or epochs (`\"12ep\"`)")
    reference_world_size: int = option("SOLVER.REFERENCE_WORLD_SIZE", "train.reference_world_size", 0, "scale batch size, learning rate and lengths from this number of processes to the actual one; 0: do not")
    eval_period: Length = length("TEST.EVAL_PERIOD", "train.eval_period", 0, "iterations (or epochs) between evaluations; 0: at the end only")
    eval_async: bool = option("TEST.ASYNC.ENABLED", "train.async_eval.enabled", False, "evaluate a copy of the weights in a second process while training goes on, see below")
    eval_device: str = option("TEST.ASYNC.DEVICE", "train.async_eval.device", "", "its device; empty: that of the training, unless this is the CPU, where evaluations stay within the training")
    eval_processes: int = option("TEST.ASYNC.PROCESSES", "train.async_eval.processes", 1, "number of processes that share such an evaluation, each on a GPU after those of the training, or after `TEST.ASYNC.DEVICE`")
    log_period: int = option("SOLVER.LOG_PERIOD", "train.log_period", 20, "iterations between log lines")
    checkpoint_period: Length = length("SOLVER.CHECKPOINT_PERIOD", "train.checkpointer.period", 5000, "iterations (or epochs) between checkpoints")
    checkpoint_keep: int = option("SOLVER.CHECKPOINT_KEEP", "train.checkpointer.max_to_keep", 0, "number of checkpoints to keep; 0: all")
    amp: bool = option("SOLVER.AMP.ENABLED", "train.amp.enabled", False, "mixed precision")
    amp_dtype: str = option("SOLVER.AMP.DTYPE", "train.amp.dtype", "float16", "its dtype: float16 (with loss scaling) or bfloat16")
    accumulate_steps: int = option("SOLVER.ACCUMULATE_STEPS", "train.accumulate_steps", 1, "batches per optimizer step")
    auto_batch: bool = option("SOLVER.AUTO_BATCH.ENABLED", "train.auto_batch.enabled", False, "use the largest batch that fits, see below")
    auto_batch_share: float = option("SOLVER.AUTO_BATCH.SHARE", "train.auto_batch.share", 0.8, "share of the free memory to fill")
    auto_batch_max: int = option("SOLVER.AUTO_BATCH.MAX", "train.auto_batch.max", 64, "maximum images per process")
    ema: bool = option("SOLVER.EMA.ENABLED", "train.ema.enabled", False, "moving average of the weights")
    ema_decay: float = option("SOLVER.EMA.DECAY", "train.ema.decay", 0.999, "share of the old average to keep at each step")
    ema_evaluate: bool = option("SOLVER.EMA.EVALUATE", "train.ema.evaluate", True, "evaluate the average instead of the weights")
    compile: bool = option("SOLVER.COMPILE.ENABLED", "train.compile.enabled", False, "`torch.compile`")
    compile_parts: list[str] = option("SOLVER.COMPILE.PARTS", "train.compile.parts", ["backbone"], "modules to compile; `\"\"` is the whole model")
    compile_mode: str = option("SOLVER.COMPILE.MODE", "train.compile.mode", "default", "mode of `torch.compile`")
    cuda_graphs: bool = option("SOLVER.CUDA_GRAPHS", "train.cuda_graphs", False, "compile whole steps into CUDA graphs, see the page on performance")
    channels_last: bool = option("SOLVER.CHANNELS_LAST", "train.channels_last", False, "channels-last memory order")
    freeze: list[str] = option("SOLVER.FREEZE", "train.freeze", [], "parameters to freeze: regular expressions")
    activation_checkpoint: list[str] = option("SOLVER.ACTIVATION_CHECKPOINT", "train.activation_checkpoint", [], "modules that recompute their activations: regular expressions")
    best_metric: str = option("SOLVER.BEST_CHECKPOINT.METRIC", "train.best_checkpoint.metric", "", "keep `model_best.pth` by this metric, such as `bbox/AP`")
    best_mode: str = option("SOLVER.BEST_CHECKPOINT.MODE", "train.best_checkpoint.mode", "max", "`max` or `min`: which is better")
    stop_metric: str = option("SOLVER.EARLY_STOPPING.METRIC", "train.early_stopping.metric", "", "stop when this metric no longer improves")
    stop_mode: str = option("SOLVER.EARLY_STOPPING.MODE", "train.early_stopping.mode", "max", "`max` or `min`: which is better")
    stop_patience: int = option("SOLVER.EARLY_STOPPING.PATIENCE", "train.early_stopping.patience", 5, "evaluations without improvement before the end")
    stop_min_delta: float = option("SOLVER.EARLY_STOPPING.MIN_DELTA", "train.early_stopping.min_delta", 0.0, "smallest change that counts as improvement")
    skip_bad_steps: int = option("SOLVER.NONFINITE.SKIP", "train.nonfinite.skip", 0, "number of steps with a non-finite loss that may be skipped")
    keep_bad_batch: bool = option("SOLVER.NONFINITE.KEEP_BATCH", "train.nonfinite.keep_batch", True, "keep their batch for `detectron2 replay`")
    oom_retry: bool = option("SOLVER.OOM_RETRY", "train.oom_retry", False, "when out of memory, retry image by image")
    resume_mode: str = option("SOLVER.RESUME_MODE", "train.resume_mode", "resume", "what `--resume` restores, see below")
    val_loss_period: Length = length("TEST.VAL_LOSS.PERIOD", "train.val_loss.period", 0, "iterations (or epochs) between loss computations on the test data; 0: never")
    val_loss_batches: int = option("TEST.VAL_LOSS.MAX_BATCHES", "train.val_loss.max_batches", 0, "batches for them; 0: all")
    report_period: Length = length("SOLVER.REPORT_PERIOD", "train.report_period", -1, "iterations (or epochs) between updates of `report.html`; -1: with evaluations; 0: never")
    progress_bar: str = option("WRITERS.PROGRESS_BAR", "train.writers.progress_bar", "auto", "progress bar: on, off, auto (on a terminal)")
    tensorboard: bool = option("WRITERS.TENSORBOARD", "train.writers.tensorboard", True, "TensorBoard files")
    wandb: bool = option("WRITERS.WANDB.ENABLED", "train.writers.wandb.enabled", False, "Weights & Biases (`WANDB_MODE=offline` keeps it on this machine)")
    wandb_project: str = option("WRITERS.WANDB.PROJECT", "train.writers.wandb.project", "detectron2", "its project")
    mlflow: bool = option("WRITERS.MLFLOW.ENABLED", "train.writers.mlflow.enabled", False, "MLflow")
    mlflow_experiment: str = option("WRITERS.MLFLOW.EXPERIMENT", "train.writers.mlflow.experiment", "detectron2", "its experiment")
    mlflow_uri: str = option("WRITERS.MLFLOW.URI", "train.writers.mlflow.uri", "", "its tracking store: a URL or `file:` folder")
    find_unused_parameters: bool = option("SOLVER.DDP.FIND_UNUSED_PARAMETERS", "train.ddp.find_unused_parameters", False, "DDP: some batches do not use all parameters")
    broadcast_buffers: bool = option("SOLVER.DDP.BROADCAST_BUFFERS", "train.ddp.broadcast_buffers", False, "DDP: send buffers from the main process before each step")
    fp16_compression: bool = option("SOLVER.DDP.FP16_COMPRESSION", "train.ddp.fp16_compression", False, "DDP: send gradients as float16")
    fsdp: bool = option("SOLVER.FSDP.ENABLED", "train.fsdp.enabled", False, "shard the model over the processes (FSDP2), see below")
    fsdp_parts: list[str] = option("SOLVER.FSDP.PARTS", "train.fsdp.parts", ["backbone"], "modules whose blocks are gathered one at a time")
    precise_bn: bool = option("TEST.PRECISE_BN.ENABLED", "train.precise_bn.enabled", False, "recompute batch norm statistics before each evaluation")
    precise_bn_iters: int = option("TEST.PRECISE_BN.NUM_ITER", "train.precise_bn.num_iter", 200, "batches for them")
    # fmt: on


OPTIONS: dict[str, Option] = {f.name: f.metadata["option"] for f in fields(TrainingOptions)}
"""Options by the names of their fields."""

LENGTH_KEYS = {key for row in OPTIONS.values() if row.is_length for key in (row.key, row.lazy)} | set(
    YACS_LENGTHS
)
"""Keys of either kind of config that accept epochs."""
