"""Hooks: actions before, between and after the steps of training."""

from detectron2.utils.reexports import passed_on, publish

from .async_eval import AsyncEvalHook, datasets_for_another_process
from .basic import CallbackHook, IterationTimer, PeriodicWriter, TorchMemoryStats
from .checkpoint import BestCheckpointer, PeriodicCheckpointer
from .early_stop import EarlyStopping
from .ema import EMAHook
from .eval import EvalHook, ValidationLoss
from .lr import LRScheduler
from .periodic import PeriodicHook
from .precise_bn import PreciseBN, get_bn_modules, update_bn_stats
from .profile import AutogradProfiler, TorchProfiler
from .progress import ProgressBar
from .report import ReportWriter
from .resume_state import ResumeState

__all__ = [
    "AsyncEvalHook",
    "AutogradProfiler",
    "BestCheckpointer",
    "CallbackHook",
    "EMAHook",
    "EarlyStopping",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicHook",
    "PeriodicWriter",
    "PreciseBN",
    "ProgressBar",
    "ReportWriter",
    "ResumeState",
    "TorchMemoryStats",
    "TorchProfiler",
    "ValidationLoss",
    "datasets_for_another_process",
    "get_bn_modules",
    "update_bn_stats",
]

__getattr__ = passed_on(__name__)

publish(
    __name__, AsyncEvalHook, AutogradProfiler, BestCheckpointer, CallbackHook, EMAHook, EarlyStopping, EvalHook, IterationTimer,
    LRScheduler, PeriodicCheckpointer, PeriodicHook, PeriodicWriter, PreciseBN, ProgressBar, ReportWriter, ResumeState,
    TorchMemoryStats, TorchProfiler, ValidationLoss, datasets_for_another_process, get_bn_modules, update_bn_stats,
)  # fmt: skip
