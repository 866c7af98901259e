"""Profiling iterations with torch.profiler."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch

from detectron2.utils.file_io import PathManager

from ..train_loop import HookBase

__all__ = ["AutogradProfiler", "TorchProfiler"]


class TorchProfiler(HookBase):
    """Profiles the iterations that a predicate selects and writes a trace for each.

    Args:
        enable_predicate: called with the trainer; returns whether to profile the next iteration.
        output_dir: folder for ``profiler-trace-iter<N>.json`` (open in https://ui.perfetto.dev), or for ``log/`` in
            TensorBoard's format.
        activities: see ``torch.profiler.profile``.
        save_tensorboard: whether to write TensorBoard's format.
    """

    def __init__(
        self,
        enable_predicate: Callable[[Any], bool],
        output_dir: str,
        *,
        activities: Iterable[Any] | None = None,
        save_tensorboard: bool = True,
    ) -> None:
        self._enable_predicate = enable_predicate
        self._activities = activities
        self._output_dir = output_dir
        self._save_tensorboard = save_tensorboard
        self._profiler: Any = None

    def before_step(self) -> None:
        if not self._enable_predicate(self.trainer):
            return
        on_ready = None
        if self._save_tensorboard:
            folder = os.path.join(self._output_dir, "log", f"profiler-tensorboard-iter{self.trainer.iter}")
            on_ready = torch.profiler.tensorboard_trace_handler(folder, f"worker{self.trainer.iter}")
        self._profiler = torch.profiler.profile(
            activities=self._activities,
            on_trace_ready=on_ready,
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
            with_flops=True,
        )
        self._profiler.__enter__()

    def after_step(self) -> None:
        if self._profiler is None:
            return
        self._profiler.__exit__(None, None, None)
        if not self._save_tensorboard:
            self._export()
        self._profiler = None

    def _export(self) -> None:
        PathManager.mkdirs(self._output_dir)
        target = os.path.join(self._output_dir, f"profiler-trace-iter{self.trainer.iter}.json")
        self._profiler.export_chrome_trace(PathManager.get_local_path(target))


class AutogradProfiler(TorchProfiler):
    """Profiles with autograd's older profiler, which needs less memory.

    With NCCL and several processes it can hang; ``TorchProfiler`` does not.

    Args:
        enable_predicate: called with the trainer; returns whether to profile the next iteration.
        output_dir: folder for ``profiler-trace-iter<N>.json``.
        use_cuda: whether to time CUDA kernels too, if CUDA is available.
    """

    def __init__(
        self, enable_predicate: Callable[[Any], bool], output_dir: str, *, use_cuda: bool = True
    ) -> None:
        super().__init__(enable_predicate, output_dir, save_tensorboard=False)
        self._use_cuda = use_cuda and torch.cuda.is_available()

    def before_step(self) -> None:
        if self._enable_predicate(self.trainer):
            device = "cuda" if self._use_cuda else None
            self._profiler = torch.autograd.profiler.profile(use_device=device)
            self._profiler.__enter__()
