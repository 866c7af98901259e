"""Data sets for torch's loader: a list, a mapped one, a sampled stream, batches of one orientation."""

import contextlib
import copy
import itertools
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import data
from torch.utils.data import Sampler

from .loading.shared_list import PackedList, SharedPackedList

__all__ = [
    "AspectRatioGroupedDataset",
    "DatasetFromList",
    "MapDataset",
    "ToIterableDataset",
    "set_default_dataset_from_list_serialize_method",
]

logger = logging.getLogger(__name__)

NumpySerializedList = PackedList
TorchSerializedList = SharedPackedList

Serialize = Callable[[list[Any]], Sequence[Any]]
_serialize_method: Serialize = SharedPackedList


@contextlib.contextmanager
def set_default_dataset_from_list_serialize_method(new: Serialize) -> Iterator[None]:
    """Within the block, ``DatasetFromList(..., serialize=True)`` stores its list with ``new``.

    Args:
        new: takes the list, returns a sequence that gives the elements again.
    """
    global _serialize_method
    old, _serialize_method = _serialize_method, new
    try:
        yield
    finally:
        _serialize_method = old


class DatasetFromList(data.Dataset):
    """A list as a data set.

    Args:
        lst: the elements, usually records.
        copy: give a deep copy of an element each time; only matters without ``serialize``.
        serialize: pack the elements into one buffer, of which a machine holds one copy for all ranks and workers
            (each access then makes a new object). A callable packs them in its own way.
    """

    def __init__(self, lst: list[Any], copy: bool = True, serialize: bool | Serialize = True) -> None:
        if not isinstance(serialize, (bool, Callable)):  # type: ignore[arg-type]
            raise TypeError(
                f"serialize must be a bool or a function of the list, got {type(serialize).__name__}"
            )
        self._copy = copy
        self._serialized = bool(serialize)
        method = serialize if callable(serialize) else _serialize_method
        self._lst: Sequence[Any] = method(lst) if self._serialized else lst

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: Any) -> Any:
        element = self._lst[idx]
        return copy.deepcopy(element) if self._copy and not self._serialized else element


class MapDataset(data.Dataset):
    """Apply a function to each element of a data set.

    The function may return None for an element that cannot be used. From a data set with an index, another element
    is then taken at random, chosen by the index alone so that a rerun takes the same; from an iterable one, the
    element is left out. ``num_skipped`` counts them.

    Args:
        dataset: with ``__getitem__`` and ``__len__``, or iterable (then the result is iterable too).
        map_func: takes an element.
    """

    max_attempts = 1000

    def __new__(cls, dataset: Any, map_func: Callable[[Any], Any]) -> Any:
        if cls is MapDataset and isinstance(dataset, data.IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = map_func
        self.num_skipped = 0

    def __getnewargs__(self) -> tuple[Any, Any]:
        return self._dataset, self._map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: Any) -> Any:
        index = int(idx)
        for attempt in range(self.max_attempts):
            mapped = self._map(index)
            if mapped is not None:
                return mapped
            self.num_skipped += 1
            if attempt == 2:
                logger.warning(
                    "Three elements in a row could not be mapped, the first has index %d", int(idx)
                )
            index = random.Random(f"{int(idx)}/{attempt}").randrange(len(self))
        raise RuntimeError(
            f"the mapper returned None for {self.max_attempts} elements in a row (from index {int(idx)} on): "
            "it rejects the whole data set. Call it on one record by hand to see why."
        )

    def _map(self, index: int) -> Any:
        return self._map_func(self._dataset[index])


class _MapIterableDataset(data.IterableDataset):
    """:class:`MapDataset` of an iterable data set."""

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = map_func
        self.num_skipped = 0

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Any]:
        for element in self._dataset:
            mapped = self._map_func(element)
            if mapped is None:
                self.num_skipped += 1
            else:
                yield mapped


# ------------------------------------------------------------------ sampled stream
def _worker_share(stream: Iterable[Any], chunk: int) -> Iterator[Any]:
    """The chunks of a stream that belong to the worker that runs this, or all of it outside workers."""
    info = data.get_worker_info()
    if info is None or info.num_workers == 1:
        yield from stream
        return
    it = iter(stream)
    for number in itertools.count():
        block = list(itertools.islice(it, chunk))
        if not block:
            return
        if number % info.num_workers == info.id:
            yield from block


@contextlib.contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Run a block with the global CPU random generators seeded by ``key``, and put them back after it."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1:3])
    # Not torch.manual_seed, which would reset the generators of the accelerators as well.
    torch.default_generator.manual_seed(int(words[3]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


_position: int | None = None


def stream_position() -> int | None:
    """Number of the image that is being read in the training stream of this rank; None outside of one.

    The same in resumed runs and with any number of workers, so that a mapper may depend on it.
    """
    return _position


class ToIterableDataset(data.IterableDataset):
    """Turn a data set with an index, and a sampler over it, into a stream.

    Args:
        dataset: with ``__getitem__``.
        sampler: gives the indices, in each worker the same.
        shard_sampler: give each worker of the loader its part; false if the sampler itself does so.
        shard_chunk_size: workers take so many consecutive indices in turn. With the batch size here, batches have
            the same members whatever the number of workers.
    """

    def __init__(
        self, dataset: data.Dataset, sampler: Sampler, shard_sampler: bool = True, shard_chunk_size: int = 1
    ) -> None:
        if isinstance(dataset, data.IterableDataset):
            raise TypeError(f"dataset is iterable already ({type(dataset).__name__}) and takes no sampler")
        if not isinstance(sampler, Sampler):
            raise TypeError(f"sampler must be a torch.utils.data.Sampler, got {type(sampler).__name__}")
        self.dataset = dataset
        self.sampler = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size
        # Set by the loader: a seed per element, and where a resumed run goes on (see _resume.py).
        self.element_seed: tuple[int, ...] | None = None
        self.first_position = 0
        self.replay: tuple[int, ...] = ()

    def _positions(self) -> Iterator[tuple[int, int]]:
        """(position in the stream, index) of what is to be read, from the resume point on."""
        again = set(self.replay)
        for position, index in enumerate(self.sampler):
            if position >= self.first_position or position in again:
                yield position, index

    def __iter__(self) -> Iterator[Any]:
        stream: Iterable[tuple[int, int]] = self._positions()
        if self.shard_sampler:
            stream = _worker_share(stream, self.shard_chunk_size)
        global _position
        for position, index in stream:
            _position = position
            try:
                with (
                    contextlib.nullcontext()
                    if self.element_seed is None
                    else seeded(*self.element_seed, position)
                ):
                    element = self.dataset[index]
            finally:
                _position = None
            yield element

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


class AspectRatioGroupedDataset(data.IterableDataset):
    """Batches in which all images are upright, or none is, so that little is lost to padding.

    Order is kept within a group; a batch comes as soon as its group is full.

    Args:
        dataset: iterable of dicts with ``width`` and ``height``.
        batch_size: images of a batch.
    """

    def __init__(self, dataset: Iterable[dict[str, Any]], batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        # Positions in the stream of the images that wait for their batch; the loader saves them.
        self.waiting: list[list[int]] = [[], []]
        self.taken = 0

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        buckets: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        self.waiting = [[], []]
        self.taken = 0
        for element in self.dataset:
            which = int(element["width"] <= element["height"])
            buckets[which].append(element)
            self.waiting[which].append(self.taken)
            self.taken += 1
            if len(buckets[which]) == self.batch_size:
                batch = buckets[which][:]
                buckets[which].clear()
                self.waiting[which].clear()
                yield batch
