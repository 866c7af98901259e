"""The training options of either kind of config, in one typed record.

A yacs-style config names them in `SOLVER`, `TEST` and at its root; a LazyConfig names them in
`train`. The table `FIELDS` is the only place that knows both names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.suggest import did_you_mean

__all__ = ["FIELDS", "Settings", "is_lazy", "lookup"]

Length = int | str
"""A number of iterations, or of epochs as text: `"12ep"`."""


def is_lazy(cfg: Any) -> bool:
    """Whether a config is of the lazy kind (omegaconf or plain dicts) rather than a `CfgNode`."""
    return not isinstance(cfg, CfgNode)


_MISSING = object()


def lookup(cfg: Any, path: str, default: Any = _MISSING) -> Any:
    """Value under a dotted path of either kind of config.

    Raises:
        KeyError: if it is missing and no default is given.
    """
    node = cfg
    for part in path.split("."):
        if not isinstance(node, Mapping) and not hasattr(node, "keys"):
            node = _MISSING
            break
        node = node.get(part, _MISSING) if node is not None else _MISSING
        if node is _MISSING:
            break
    if node is not _MISSING:
        return node
    if default is _MISSING:
        raise KeyError(f"the config has no {path}")
    return default


@dataclass
class Settings:
    """Options of a training; see `docs/training.md` for what each does."""

    output_dir: str = "./output"
    weights: str = ""
    device: str = "cuda"
    seed: int = -1
    max_iter: Length = 40000
    eval_period: Length = 0
    log_period: int = 20
    checkpoint_period: Length = 5000
    checkpoint_keep: int = 0
    amp: bool = False
    amp_dtype: str = "float16"
    accumulate_steps: int = 1
    auto_batch: bool = False
    auto_batch_share: float = 0.8
    auto_batch_max: int = 64
    ema: bool = False
    ema_decay: float = 0.999
    ema_evaluate: bool = True
    compile: bool = False
    compile_parts: list[str] = field(default_factory=lambda: ["backbone"])
    compile_mode: str = "default"
    channels_last: bool = False
    freeze: list[str] = field(default_factory=list)
    activation_checkpoint: list[str] = field(default_factory=list)
    best_metric: str = ""
    best_mode: str = "max"
    stop_metric: str = ""
    stop_mode: str = "max"
    stop_patience: int = 5
    stop_min_delta: float = 0.0
    skip_bad_steps: int = 0
    keep_bad_batch: bool = True
    oom_retry: bool = False
    resume_mode: str = "resume"
    val_loss_period: Length = 0
    val_loss_batches: int = 0
    report_period: Length = -1
    deterministic: bool = False
    progress_bar: str = "auto"
    tensorboard: bool = True
    wandb: bool = False
    wandb_project: str = "detectron2"
    mlflow: bool = False
    mlflow_experiment: str = "detectron2"
    mlflow_uri: str = ""
    find_unused_parameters: bool = False
    broadcast_buffers: bool = False
    fp16_compression: bool = False
    fsdp: bool = False
    fsdp_parts: list[str] = field(default_factory=lambda: ["backbone"])
    precise_bn: bool = False
    precise_bn_iters: int = 200

    @classmethod
    def from_config(cls, cfg: Any) -> Settings:
        """Reads a config of either kind; what it lacks keeps its default.

        Raises:
            KeyError: if a lazy config has an option in `train` that nothing knows.
        """
        column = 1 if is_lazy(cfg) else 0
        values: dict[str, Any] = {}
        for entry in fields(cls):
            name = FIELDS[entry.name][column]
            found = lookup(cfg, name, None) if name else None
            if found is not None:
                values[entry.name] = list(found) if entry.name in _LISTS else found
        if is_lazy(cfg):
            values["weights"] = lookup(cfg, "train.init_checkpoint", "") or ""
            _refuse_unknown(cfg)
        return cls(**values)


# Field: (key of a CfgNode, path in a LazyConfig).
FIELDS: dict[str, tuple[str, str]] = {
    "output_dir": ("OUTPUT_DIR", "train.output_dir"),
    "weights": ("MODEL.WEIGHTS", "train.init_checkpoint"),
    "device": ("MODEL.DEVICE", "train.device"),
    "seed": ("SEED", "train.seed"),
    "max_iter": ("SOLVER.MAX_ITER", "train.max_iter"),
    "eval_period": ("TEST.EVAL_PERIOD", "train.eval_period"),
    "log_period": ("SOLVER.LOG_PERIOD", "train.log_period"),
    "checkpoint_period": ("SOLVER.CHECKPOINT_PERIOD", "train.checkpointer.period"),
    "checkpoint_keep": ("SOLVER.CHECKPOINT_KEEP", "train.checkpointer.max_to_keep"),
    "amp": ("SOLVER.AMP.ENABLED", "train.amp.enabled"),
    "amp_dtype": ("SOLVER.AMP.DTYPE", "train.amp.dtype"),
    "accumulate_steps": ("SOLVER.ACCUMULATE_STEPS", "train.accumulate_steps"),
    "auto_batch": ("SOLVER.AUTO_BATCH.ENABLED", "train.auto_batch.enabled"),
    "auto_batch_share": ("SOLVER.AUTO_BATCH.SHARE", "train.auto_batch.share"),
    "auto_batch_max": ("SOLVER.AUTO_BATCH.MAX", "train.auto_batch.max"),
    "ema": ("SOLVER.EMA.ENABLED", "train.ema.enabled"),
    "ema_decay": ("SOLVER.EMA.DECAY", "train.ema.decay"),
    "ema_evaluate": ("SOLVER.EMA.EVALUATE", "train.ema.evaluate"),
    "compile": ("SOLVER.COMPILE.ENABLED", "train.compile.enabled"),
    "compile_parts": ("SOLVER.COMPILE.PARTS", "train.compile.parts"),
    "compile_mode": ("SOLVER.COMPILE.MODE", "train.compile.mode"),
    "channels_last": ("SOLVER.CHANNELS_LAST", "train.channels_last"),
    "freeze": ("SOLVER.FREEZE", "train.freeze"),
    "activation_checkpoint": ("SOLVER.ACTIVATION_CHECKPOINT", "train.activation_checkpoint"),
    "best_metric": ("SOLVER.BEST_CHECKPOINT.METRIC", "train.best_checkpoint.metric"),
    "best_mode": ("SOLVER.BEST_CHECKPOINT.MODE", "train.best_checkpoint.mode"),
    "stop_metric": ("SOLVER.EARLY_STOPPING.METRIC", "train.early_stopping.metric"),
    "stop_mode": ("SOLVER.EARLY_STOPPING.MODE", "train.early_stopping.mode"),
    "stop_patience": ("SOLVER.EARLY_STOPPING.PATIENCE", "train.early_stopping.patience"),
    "stop_min_delta": ("SOLVER.EARLY_STOPPING.MIN_DELTA", "train.early_stopping.min_delta"),
    "skip_bad_steps": ("SOLVER.NONFINITE.SKIP", "train.nonfinite.skip"),
    "keep_bad_batch": ("SOLVER.NONFINITE.KEEP_BATCH", "train.nonfinite.keep_batch"),
    "oom_retry": ("SOLVER.OOM_RETRY", "train.oom_retry"),
    "resume_mode": ("SOLVER.RESUME_MODE", "train.resume_mode"),
    "val_loss_period": ("TEST.VAL_LOSS.PERIOD", "train.val_loss.period"),
    "val_loss_batches": ("TEST.VAL_LOSS.MAX_BATCHES", "train.val_loss.max_batches"),
    "report_period": ("SOLVER.REPORT_PERIOD", "train.report_period"),
    "deterministic": ("DETERMINISTIC", "train.deterministic"),
    "progress_bar": ("WRITERS.PROGRESS_BAR", "train.writers.progress_bar"),
    "tensorboard": ("WRITERS.TENSORBOARD", "train.writers.tensorboard"),
    "wandb": ("WRITERS.WANDB.ENABLED", "train.writers.wandb.enabled"),
    "wandb_project": ("WRITERS.WANDB.PROJECT", "train.writers.wandb.project"),
    "mlflow": ("WRITERS.MLFLOW.ENABLED", "train.writers.mlflow.enabled"),
    "mlflow_experiment": ("WRITERS.MLFLOW.EXPERIMENT", "train.writers.mlflow.experiment"),
    "mlflow_uri": ("WRITERS.MLFLOW.URI", "train.writers.mlflow.uri"),
    "find_unused_parameters": ("SOLVER.DDP.FIND_UNUSED_PARAMETERS", "train.ddp.find_unused_parameters"),
    "broadcast_buffers": ("SOLVER.DDP.BROADCAST_BUFFERS", "train.ddp.broadcast_buffers"),
    "fp16_compression": ("SOLVER.DDP.FP16_COMPRESSION", "train.ddp.fp16_compression"),
    "fsdp": ("SOLVER.FSDP.ENABLED", "train.fsdp.enabled"),
    "fsdp_parts": ("SOLVER.FSDP.PARTS", "train.fsdp.parts"),
    "precise_bn": ("TEST.PRECISE_BN.ENABLED", "train.precise_bn.enabled"),
    "precise_bn_iters": ("TEST.PRECISE_BN.NUM_ITER", "train.precise_bn.num_iter"),
}
_LISTS = {"compile_parts", "freeze", "activation_checkpoint", "fsdp_parts"}


def _refuse_unknown(cfg: Any) -> None:
    """A misspelt option would be without effect; keys of the user's own are allowed below `train.extra`."""
    known = {path for _, path in FIELDS.values()} | {"train.cudnn_benchmark", "train.float32_precision"}
    parents = {path.rsplit(".", 1)[0] for path in known}

    def walk(node: Any, path: str) -> None:
        for key in node:
            child = f"{path}.{key}"
            if child in known or child == "train.extra" or str(key).startswith("_"):
                continue
            if child in parents and hasattr(node[key], "keys"):
                walk(node[key], child)
            else:
                import logging

                logging.getLogger(__name__).warning(
                    "The config has %s, which this trainer does not know. %s",
                    child,
                    did_you_mean(child, known),
                )

    walk(lookup(cfg, "train", {}), "train")
