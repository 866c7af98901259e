"""Storage for the metrics and images of a training run until writers read them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy.typing as npt
import torch

from ..suggest import did_you_mean
from .history import HistoryBuffer

__all__ = ["EventStorage", "get_event_storage", "has_event_storage"]

_CURRENT_STORAGE_STACK: list[EventStorage] = []
# Maximum number of unread device values; limits memory if no writer ever reads.
_MAX_WAITING = 8192


def has_event_storage() -> bool:
    """Return whether the caller runs inside a ``with EventStorage(...)`` block."""
    return bool(_CURRENT_STORAGE_STACK)


def get_event_storage() -> EventStorage:
    """Return the innermost open storage.

    Raises:
        AssertionError: outside any ``with EventStorage(...)`` block.
    """
    if not _CURRENT_STORAGE_STACK:
        raise AssertionError(
            "no EventStorage is open: call this during training, or inside `with EventStorage(start_iter):`"
        )
    return _CURRENT_STORAGE_STACK[-1]


class EventStorage:
    """Metrics, images and histograms of a running job; a context manager.

    Scalars may be numbers or tensors with one element. Tensors on an accelerator stay there until the first read, which
    transfers all of them together; adding them never blocks the host.

    Args:
        start_iter: first iteration of the job.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self._iter = start_iter
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self._waiting: list[tuple[str, Any, int]] = []
        self._current_prefix = ""
        self._vis_data: list[tuple[str, Any, int]] = []
        self._histograms: list[dict[str, Any]] = []

    # -- time ---------------------------------------------------------------------------------

    @property
    def iter(self) -> int:
        """The current iteration; in a trainer, the number of steps finished before it."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        """Same as ``iter``."""
        return self._iter

    def step(self) -> None:
        """Advance to the next iteration; trainers set ``iter`` themselves."""
        self._iter += 1

    # -- putting ------------------------------------------------------------------------------

    def put_scalar(
        self, name: str, value: float | torch.Tensor, smoothing_hint: bool = True, cur_iter: int | None = None
    ) -> None:
        """Add one value to a metric.

        Args:
            name: of the metric; prefixed inside ``name_scope``.
            value: a number or a tensor with one element.
            smoothing_hint: whether the metric is noisy, so that writers should output the median of a window instead of
                the newest value; must be the same in all calls for a name.
            cur_iter: iteration of the value; default: the current one.

        Raises:
            AssertionError: if ``smoothing_hint`` differs from an earlier call for this name.
        """
        name = self._current_prefix + name
        if self._smoothing_hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise AssertionError(
                f"metric {name!r} was first added with smoothing_hint={not smoothing_hint}; use the same each time"
            )
        when = self._iter if cur_iter is None else cur_iter
        on_device = isinstance(value, torch.Tensor) and value.device.type != "cpu"
        kept = value.detach().clone() if on_device else float(value)  # type: ignore[union-attr]
        if isinstance(kept, float) and not self._waiting:
            self._record(name, kept, when)
            return
        # A number waits behind earlier tensors, which keeps each history in order.
        self._waiting.append((name, kept, when))
        if len(self._waiting) > _MAX_WAITING:
            self.flush()

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: float | torch.Tensor
    ) -> None:
        """Add one value to each of several metrics: ``put_scalars(loss=1.0, accuracy=0.5)``."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def put_image(self, img_name: str, img_tensor: torch.Tensor | npt.NDArray) -> None:
        """Add an image for writers.

        Args:
            img_name: name of the image.
            img_tensor: array or tensor (3, H, W), RGB; uint8 in [0, 255] or float in [0, 1].
        """
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Add the distribution of a tensor's values.

        Args:
            hist_name: name of the histogram.
            hist_tensor: any shape, at least one element.
            bins: number of equal bins between the smallest and the largest value.
        """
        flat = hist_tensor.detach().float().reshape(-1).cpu()
        low, high = (float(v) for v in torch.aminmax(flat))
        self._histograms.append(
            {
                "tag": hist_name,
                "min": low,
                "max": high,
                "num": flat.numel(),
                "sum": float(flat.sum()),
                "sum_squares": float(flat.square().sum()),
                "bucket_limits": torch.linspace(low, high, bins + 1)[1:].tolist(),
                "bucket_counts": torch.histc(flat, bins=bins).tolist(),
                "global_step": self._iter,
            }
        )

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Prefix the names of all scalars in the block with ``name/``; an inner scope replaces the outer one."""
        before = self._current_prefix
        self._current_prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = before

    # -- reading ------------------------------------------------------------------------------

    def _record(self, name: str, value: float, when: int) -> None:
        self._history[name].update(value, when)
        self._latest[name] = (value, when)

    def flush(self) -> None:
        """Copy pending values to the host, in one transfer per device."""
        waiting, self._waiting = self._waiting, []
        places: dict[torch.device, list[int]] = defaultdict(list)
        for i, (_, value, _) in enumerate(waiting):
            if isinstance(value, torch.Tensor):
                places[value.device].append(i)
        fetched: dict[int, float] = {}
        for indices in places.values():
            values = torch.stack([waiting[i][1].reshape(()).float() for i in indices]).cpu().tolist()
            fetched.update(zip(indices, values))
        for i, (name, value, when) in enumerate(waiting):
            self._record(name, fetched.get(i, value), when)

    def history(self, name: str) -> HistoryBuffer:
        """Return all values of a metric.

        Raises:
            KeyError: if there is none; the message lists similar names.
        """
        self.flush()
        if name not in self._history:
            raise KeyError(
                f"no metric named {name!r} was added yet. {did_you_mean(name, self._history)}".rstrip()
            )
        return self._history[name]

    def histories(self) -> Mapping[str, HistoryBuffer]:
        """Return the history of every metric by name."""
        self.flush()
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Return the newest value of every metric and its iteration, by name."""
        self.flush()
        return self._latest

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Count the values of a metric in the last ``window_size`` iterations, up to its newest value."""
        pairs = self.history(name)
        return pairs.count_since(self._latest[name][1] - window_size)

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Return :meth:`latest` with noisy metrics replaced by their median over a window.

        Args:
            window_size: in iterations rather than values, so that rare metrics are not smoothed over old values.
        """
        return {
            name: (
                self._history[name].median(self.count_samples(name, window_size))
                if self._smoothing_hints[name]
                else value,
                when,
            )
            for name, (value, when) in self.latest().items()
        }

    def smoothing_hints(self) -> dict[str, bool]:
        """Return the smoothing hint of every metric by name."""
        return self._smoothing_hints

    def clear_images(self) -> None:
        """Remove the images, once writers have read them."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Remove the histograms, once writers have read them."""
        self._histograms = []

    # -- context ------------------------------------------------------------------------------

    def __enter__(self) -> EventStorage:
        _CURRENT_STORAGE_STACK.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not _CURRENT_STORAGE_STACK or _CURRENT_STORAGE_STACK[-1] is not self:
            raise AssertionError("EventStorage blocks must close in the reverse order of opening")
        _CURRENT_STORAGE_STACK.pop()
