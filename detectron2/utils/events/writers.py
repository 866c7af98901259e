"""Writers of metrics: console, JSON lines, TensorBoard."""

from __future__ import annotations

import datetime
import json
import logging
import os
import time
from collections import defaultdict
from typing import IO, Any

import torch

from ..file_io import PathManager
from .storage import EventStorage, get_event_storage

__all__ = ["CommonMetricPrinter", "EventWriter", "JSONWriter", "TensorboardXWriter"]


class EventWriter:
    """Base class of writers, which read the open ``EventStorage``."""

    def write(self) -> None:
        """Output new values; called while a storage is open."""
        raise NotImplementedError(f"{type(self).__name__} must define write()")

    def close(self) -> None:
        """Finish; the writer is not used again."""


class _NewScalars:
    """Returns each scalar once, regardless of how often a writer asks."""

    def __init__(self, window_size: int) -> None:
        self._window = window_size
        self._seen: dict[str, int] = {}

    def take(self, storage: EventStorage) -> dict[int, dict[str, float]]:
        """Return the scalars added since the last call: iteration -> name -> value."""
        fresh: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, when) in storage.latest_with_smoothing_hint(self._window).items():
            # By name, since the results of an evaluation may arrive after later losses.
            if when > self._seen.get(name, -1):
                fresh[when][name] = value
                self._seen[name] = when
        return dict(fresh)


class JSONWriter(EventWriter):
    """Appends one JSON object per line: ``{"iteration": 19, "total_loss": 0.7, ...}``.

    Lines are on disk before ``write`` returns, so that a killed run keeps its metrics.

    Args:
        json_file: file to append to.
        window_size: iterations for the median of noisy metrics.
    """

    def __init__(self, json_file: str | os.PathLike[str], window_size: int = 20) -> None:
        self._path = os.fspath(json_file)
        self._stream: IO[str] | None = None
        self._new = _NewScalars(window_size)

    @property
    def _file(self) -> IO[str]:
        # Opened at the first line, so that a trainer that never trains leaves no empty file.
        if self._stream is None:
            folder = os.path.dirname(self._path)
            if folder:
                PathManager.mkdirs(folder)
            self._stream = PathManager.open(self._path, "a")
            if _ends_within_a_line(self._path):  # after a full disk or a power cut
                self._stream.write("\n")
        return self._stream

    def write(self) -> None:
        for iteration, scalars in self._new.take(get_event_storage()).items():
            self._file.write(json.dumps({**scalars, "iteration": iteration}, sort_keys=True) + "\n")
        self._file.flush()
        try:
            os.fsync(self._file.fileno())
        except (OSError, AttributeError):
            pass  # remote or in memory

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _ends_within_a_line(path: str) -> bool:
    """Return whether the last line of a local file lacks its newline."""
    try:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # empty, absent or remote
        return False


class TensorboardXWriter(EventWriter):
    """Writes scalars, images and histograms for TensorBoard.

    Args:
        log_dir: folder of the event files.
        window_size: iterations for the median of noisy metrics.
        **kwargs: passed to ``torch.utils.tensorboard.SummaryWriter``.

    Raises:
        ImportError: at the first write, if tensorboard is not installed.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: object) -> None:
        self._new = _NewScalars(window_size)
        self._writer_args: dict[str, Any] = {"log_dir": log_dir, **kwargs}
        self.__summary: Any = None

    @property
    def _writer(self) -> Any:
        # Created on first use, since this creates a file and imports a slow package.
        if self.__summary is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError(
                    "TensorboardXWriter needs tensorboard: pip install 'detectron2[tensorboard]'"
                ) from error
            self.__summary = SummaryWriter(**self._writer_args)
        return self.__summary

    def write(self) -> None:
        storage = get_event_storage()
        for iteration, scalars in self._new.take(storage).items():
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, iteration)
        for name, picture, iteration in storage._vis_data:
            self._writer.add_image(name, picture, iteration)
        # The first writer of images removes them, so that they do not accumulate.
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()

    def close(self) -> None:
        if self.__summary is not None:
            self.__summary.close()


def peak_memory_mib() -> float | None:
    """Return the peak device memory of tensors of this process in MiB; None without CUDA."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None


class CommonMetricPrinter(EventWriter):
    """Logs one line: remaining time, iteration, losses, step and data times, learning rate, memory.

    Args:
        max_iter: length of the run, for the remaining time; None omits it.
        window_size: iterations for the median of noisy metrics.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        # Users filter logs by the name of the public module.
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None
        # A progress bar sets this to False, so that the line goes to log files only.
        self.to_console = True

    def _eta(self, storage: EventStorage) -> str | None:
        """Return the remaining time as text, from step times if there are any, else from the time between two lines."""
        if self._max_iter is None:
            return None
        left = self._max_iter - storage.iter - 1
        if "time" in storage.histories():
            seconds = storage.history("time").median(1000) * left
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            return str(datetime.timedelta(seconds=int(max(seconds, 0))))
        before, now = self._last_write, (storage.iter, time.perf_counter())
        self._last_write = now
        if before is None or now[0] <= before[0]:
            return None
        seconds = (now[1] - before[1]) / (now[0] - before[0]) * left
        return str(datetime.timedelta(seconds=int(max(seconds, 0))))

    def _fields(self, storage: EventStorage) -> dict[str, str]:
        """Return the names and texts of one line, in order."""
        known = storage.histories()

        def median(name: str, form: str) -> str:
            return format(known[name].median(storage.count_samples(name, self._window_size)), form)

        fields: dict[str, str] = {}
        eta = self._eta(storage)
        if eta is not None:
            fields["eta"] = eta
        fields["iter"] = str(storage.iter)
        # Training and validation losses, and metrics marked by their names; not all other metrics.
        for name in known:
            if "loss" in name.rsplit("/", 1)[-1] or name.startswith("[metric]"):
                fields[name] = median(name, ".4g")
        for name in ("time", "data_time"):
            if name in known:
                fields[name] = median(name, ".4f")
                fields["last_" + name] = format(known[name].latest(), ".4f")
        if "lr" in known:
            fields["lr"] = format(known["lr"].latest(), ".5g")
        memory = peak_memory_mib()
        if memory is not None:
            fields["max_mem"] = f"{memory:.0f}M"
        return fields

    def write(self) -> None:
        storage = get_event_storage()
        # The call after the last step would repeat the previous line.
        if self._max_iter is not None and storage.iter == self._max_iter:
            return
        line = "  ".join(f"{name}: {text}" for name, text in self._fields(storage).items())
        self.logger.info(line, extra={"to_console": self.to_console})
