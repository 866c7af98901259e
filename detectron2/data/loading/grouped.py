"""Batches of one orientation whose order depends on no number of processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch.utils import data

from detectron2.utils import comm

from .stream import reading, worker_share

__all__ = ["BatchPlan", "GroupedStream"]


class BatchPlan:
    """Puts a stream of indices into batches of either portrait or landscape images, each as soon as it is full.

    Args:
        indices: of the stream of all ranks, from its start.
        upright: bool [N], for each index.
        batch_size: images per batch, over all ranks.
        first: position in the stream to begin at.
        waiting: earlier positions that are in no batch yet.

    Attributes:
        batches: number of batches so far.
    """

    def __init__(
        self,
        indices: Iterator[int],
        upright: npt.NDArray[np.bool_],
        batch_size: int,
        first: int,
        waiting: Sequence[int],
    ) -> None:
        self._indices, self._upright, self._batch_size = enumerate(indices), upright, batch_size
        self._first, self._early, self._last = first, frozenset(waiting), -1
        self._buckets: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        self.batches = 0

    def __iter__(self) -> BatchPlan:
        return self

    def __next__(self) -> list[tuple[int, int]]:
        """Return the position and index of each image of the next batch."""
        for position, index in self._indices:
            self._last = position
            if position < self._first and position not in self._early:
                continue
            bucket = self._buckets[int(self._upright[index])]
            bucket.append((position, index))
            if len(bucket) == self._batch_size:
                batch = bucket[:]
                bucket.clear()
                self.batches += 1
                return batch
        raise StopIteration

    def rest(self) -> tuple[int, list[int]]:
        """Return the first position that was not looked at, and the earlier ones that are in no batch yet."""
        held = [position for bucket in self._buckets for position, _ in bucket]
        unseen = [position for position in self._early if position > self._last]
        return max(self._first, self._last + 1), sorted(held + unseen)


class WholeStream(Protocol):
    """A sampler that knows the stream of all ranks, as those of ``detectron2.data.samplers`` do."""

    def _infinite_indices(self) -> Iterator[int]: ...


class GroupedStream(data.IterableDataset):
    """Read a map-style data set in batches of either portrait or landscape images.

    All ranks plan the same batches from the records alone, and each reads its share of every batch. So any number of
    ranks and workers sees the same batches.

    Args:
        dataset: with ``__getitem__``.
        sampler: yields the indices of all ranks, the same in each process.
        upright: bool [N], whether each image is at most as wide as high.
        batch_size: images per batch, over all ranks.
    """

    numbers_samples = True

    def __init__(
        self, dataset: Any, sampler: WholeStream, upright: npt.NDArray[np.bool_], batch_size: int
    ) -> None:
        self.dataset, self.sampler, self._upright, self.batch_size = dataset, sampler, upright, batch_size
        self.start_at(0)

    def start_at(
        self, position: int, waiting: Sequence[int] = (), seed: tuple[int, ...] | None = None
    ) -> None:
        """Set where iterations begin.

        Args:
            position: in the stream of all ranks.
            waiting: earlier positions that are in no batch yet.
            seed: see :func:`~detectron2.data.loading.stream.reading`.
        """
        self._first, self._waiting, self._seed = position, tuple(waiting), seed
        self._rank, self._world = comm.get_rank(), comm.get_world_size()

    def plan(self) -> BatchPlan:
        """Return the batches of all ranks from where iterations begin."""
        indices = self.sampler._infinite_indices()
        return BatchPlan(indices, self._upright, self.batch_size, self._first, self._waiting)

    def numbered(self) -> Iterator[tuple[int, Any]]:
        """Yield the elements of this rank, batch by batch, each with its position in the stream of all ranks."""
        mine = itertools.chain.from_iterable(batch[self._rank :: self._world] for batch in self.plan())
        for position, index in worker_share(mine, 1):
            with reading(position, self._seed):
                element = self.dataset[index]
            yield position, element

    def __iter__(self) -> Iterator[Any]:
        return (element for _, element in self.numbered())
