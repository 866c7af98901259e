"""Benchmark data loading: reading, mapping, workers, and transfer between processes."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from detectron2.utils import comm

from .build import build_batch_data_loader, trivial_batch_collator
from .common import DatasetFromList, Indexed, MapDataset, ToIterableDataset
from .samplers import TrainingSampler

__all__ = ["DataLoaderBenchmark", "iter_benchmark"]

logger = logging.getLogger(__name__)


class _Again(torch.utils.data.Dataset):
    """Repeat a few elements endlessly, to measure only the cost of their transfer."""

    def __init__(self, elements: Sequence[Any]) -> None:
        self.elements = elements

    def __getitem__(self, index: int) -> Any:
        return self.elements[index % len(self.elements)]

    def __len__(self) -> int:
        return 1 << 40


def iter_benchmark(
    iterator: Iterator[Any], num_iter: int, warmup: int = 5, max_time_seconds: float = 60
) -> tuple[float, list[float]]:
    """Time an iterator.

    Args:
        iterator: endless, or long enough.
        num_iter: elements to time.
        warmup: elements to take before that.
        max_time_seconds: stop early after this time.

    Returns:
        Mean seconds per element, and the quantiles 0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95,
        0.99 and 1 of the seconds.
    """
    for _ in range(warmup):
        next(iterator)
    marks = [time.perf_counter()]
    while len(marks) <= num_iter and (len(marks) == 1 or marks[-1] - marks[0] < max_time_seconds):
        next(iterator)
        marks.append(time.perf_counter())
    seconds = np.diff(marks)
    quantiles = [0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1]
    return float(seconds.mean()), [float(v) for v in np.quantile(seconds, quantiles)]


class DataLoaderBenchmark:
    """Times the parts of a training loader one after the other, to find the slow one.

    Args:
        dataset: list of records, or a map-style data set.
        mapper: maps a record to a model input.
        sampler: default: a shuffled :class:`TrainingSampler`.
        total_batch_size: images per batch, over all ranks.
        num_workers: worker processes per rank.
        max_time_seconds: time limit of one measurement.
    """

    def __init__(
        self,
        dataset: Indexed,
        *,
        mapper: Callable[[Any], Any],
        sampler: Sampler | None = None,
        total_batch_size: int,
        num_workers: int = 0,
        max_time_seconds: int = 90,
    ) -> None:
        if isinstance(dataset, list):
            dataset = DatasetFromList(dataset, copy=False, serialize=True)
        self.dataset = dataset
        self.mapper = mapper
        self.sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
        self.total_batch_size = total_batch_size
        self.num_workers = num_workers
        self.per_gpu_batch_size = total_batch_size // comm.get_world_size()
        self.max_time_seconds = max_time_seconds

    def _measure(self, what: str, iterable: Iterable[Any], num_iter: int, warmup: int, per: int = 1) -> None:
        mean, quantiles = iter_benchmark(iter(iterable), num_iter, warmup, self.max_time_seconds)
        median = quantiles[len(quantiles) // 2]
        logger.info(
            "%s: %.2f ms a step (median %.2f, slowest %.2f), %.1f elements/s",
            what, 1e3 * mean, 1e3 * median, 1e3 * quantiles[-1], per / mean,
        )  # fmt: skip

    def benchmark_dataset(self, num_iter: int, warmup: int = 5) -> None:
        """Time access to the records, without mapper or workers."""
        self._measure("records", (self.dataset[i] for i in self.sampler), num_iter, warmup)

    def benchmark_mapper(self, num_iter: int, warmup: int = 5) -> None:
        """Time records and mapper in this process: an upper bound on the speed of one worker."""
        self._measure("mapper", (self.mapper(self.dataset[i]) for i in self.sampler), num_iter, warmup)

    def _loader(self, num_workers: int) -> Iterable[Any]:
        dataset = MapDataset(self.dataset, self.mapper)
        return build_batch_data_loader(dataset, self.sampler, self.total_batch_size, num_workers=num_workers)

    def benchmark_workers(self, num_iter: int, warmup: int = 10) -> None:
        """Time the loader without workers, with one, and with all."""
        for count in sorted({0, 1, self.num_workers}):
            what = f"loader with {count} workers"
            self._measure(what, self._loader(count), num_iter, warmup, self.per_gpu_batch_size)

    def benchmark_IPC(self, num_iter: int, warmup: int = 10) -> None:
        """Time only the transfer of batches between processes, with elements mapped in advance."""
        ready = [self.mapper(self.dataset[i]) for i in itertools.islice(iter(self.sampler), 10)]
        stream = ToIterableDataset(_Again(ready), TrainingSampler(1 << 16, shuffle=False))
        loader = DataLoader(
            stream,
            batch_size=self.per_gpu_batch_size,
            num_workers=self.num_workers,
            collate_fn=trivial_batch_collator,
        )
        self._measure(
            f"sending from {self.num_workers} workers", loader, num_iter, warmup, self.per_gpu_batch_size
        )

    def benchmark_distributed(self, num_iter: int, warmup: int = 10) -> None:
        """Time the loader on all ranks in step with the slowest; a barrier takes the place of the training step."""

        def in_step() -> Iterator[Any]:
            for batch in self._loader(self.num_workers):
                comm.synchronize()
                yield batch

        self._measure(
            f"{comm.get_world_size()} ranks in step", in_step(), num_iter, warmup, self.total_batch_size
        )
