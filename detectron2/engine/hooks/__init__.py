"""What happens around the steps of a training."""

from detectron2.engine.hooks._basic import CallbackHook, IterationTimer, PeriodicWriter, TorchMemoryStats
from detectron2.engine.hooks._checkpoint import BestCheckpointer, PeriodicCheckpointer
from detectron2.engine.hooks._early_stop import EarlyStopping
from detectron2.engine.hooks._ema import EMAHook
from detectron2.engine.hooks._eval import EvalHook, ValidationLoss
from detectron2.engine.hooks._lr import LRScheduler
from detectron2.engine.hooks._precise_bn import PreciseBN, get_bn_modules, update_bn_stats
from detectron2.engine.hooks._profile import AutogradProfiler, TorchProfiler
from detectron2.engine.hooks._progress import ProgressBar
from detectron2.engine.hooks._report import ReportWriter, reports_available
from detectron2.engine.hooks._resume import ResumeState

__all__ = [
    "AutogradProfiler",
    "BestCheckpointer",
    "CallbackHook",
    "EMAHook",
    "EarlyStopping",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "ProgressBar",
    "ReportWriter",
    "ResumeState",
    "TorchMemoryStats",
    "TorchProfiler",
    "ValidationLoss",
    "get_bn_modules",
    "reports_available",
    "update_bn_stats",
]
