"""Elements of a training stream with their positions, which allow a run to be resumed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from torch.utils import data

from detectron2.utils.env import seeded

__all__ = ["Placed", "PlacedCollate", "PlacedStream", "reading", "stream_position"]


class Placed(NamedTuple):
    """An element of a stream, or a batch of them, on its way to the main process.

    Attributes:
        content: the element.
        worker: id of the worker that read it.
        position: for a sampled data set, the position in the sampler's stream; for an iterable one, the number of
            elements that the worker has read in this iteration, including those that the mapper left out; for a batch,
            the position of its last element.
    """

    content: Any
    worker: int
    position: int


class PlacedStream(data.IterableDataset):
    """Yield the elements of an iterable data set as :class:`Placed`.

    Args:
        dataset: iterable; its method ``numbered``, if any, yields pairs (position, element).
    """

    def __init__(self, dataset: data.IterableDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Placed]:
        info = data.get_worker_info()
        worker = 0 if info is None else info.id
        numbered = getattr(self.dataset, "numbered", None)
        for position, element in enumerate(self.dataset, 1) if numbered is None else numbered():
            yield Placed(element, worker, position)


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
    """Return the position of the image being read in the training stream of this rank; None outside a stream.

    It does not depend on resuming or the number of workers, so that mappers can rely on it.
    """
    return _position.get()


@contextlib.contextmanager
def reading(position: int, seed: tuple[int, ...] | None) -> Iterator[None]:
    """Set :func:`stream_position` within the block.

    Args:
        position: in the sampler's stream.
        seed: seeds the global CPU random generators within the block, together with the position; None does not.
    """
    token = _position.set(position)
    try:
        with contextlib.nullcontext() if seed is None else seeded(*seed, position):
            yield
    finally:
        _position.reset(token)
