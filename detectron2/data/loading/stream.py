"""Elements of a training stream with their positions, which allow a run to be resumed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from torch.utils import data

from detectron2.utils.env import seeded

__all__ = [
    "Placed",
    "PlacedCollate",
    "PlacedStream",
    "numbers_samples",
    "reading",
    "stream_position",
    "worker_share",
]

T = TypeVar("T")


class Placed(NamedTuple):
    """An element of a stream, or a batch of them, on its way to the main process.

    Attributes:
        content: the element.
        position: in the stream of this rank; for a batch, the position of its last element.
    """

    content: Any
    position: int


def numbers_samples(dataset: object) -> bool:
    """Return whether an iterable data set has positions, and can thus be resumed.

    It then has two methods: ``numbered()`` yields the position in the stream of this rank and the element of each sample,
    and ``start_at(position, waiting, seed)`` sets where iterations begin.
    """
    return bool(getattr(dataset, "numbers_samples", False))


def worker_share(stream: Iterable[T], chunk: int) -> Iterator[T]:
    """Yield this worker's chunks of a stream, or the whole stream outside a worker."""
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


class PlacedStream(data.IterableDataset):
    """Yield the elements of an iterable data set as :class:`Placed`.

    Args:
        dataset: iterable; see :func:`numbers_samples`.
    """

    def __init__(self, dataset: data.IterableDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Placed]:
        numbered: Any = self.dataset
        pairs = numbered.numbered() if numbers_samples(self.dataset) else enumerate(self.dataset)
        return (Placed(element, position) for position, element in pairs)


class PlacedCollate:
    """Collate the contents of placed elements.

    Args:
        collate_fn: turns a list of elements into a batch.
    """

    def __init__(self, collate_fn: Callable[[list[Any]], object]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, batch: list[Placed]) -> Placed:
        return batch[-1]._replace(content=self.collate_fn([p.content for p in batch]))


# ------------------------------------------------------------------ the element being read
_position: ContextVar[int | None] = ContextVar("position of the element being read", default=None)


def stream_position() -> int | None:
    """Return the position of the image being read in the training stream of all ranks; None outside a stream.

    It does not depend on resuming or the numbers of ranks and workers, so that mappers can rely on it.
    """
    return _position.get()


@contextlib.contextmanager
def reading(position: int, seed: tuple[int, ...] | None) -> Iterator[None]:
    """Set :func:`stream_position` within the block.

    Args:
        position: in the stream of all ranks.
        seed: seeds the global CPU random generators within the block, together with the position; None does not.
    """
    token = _position.set(position)
    try:
        with contextlib.nullcontext() if seed is None else seeded(*seed, position):
            yield
    finally:
        _position.reset(token)
