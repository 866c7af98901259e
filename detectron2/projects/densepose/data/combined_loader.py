"""Batches whose elements come from several loaders."""

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

__all__ = ["CombinedDataLoader"]


class CombinedDataLoader:
    """Draw the elements of each batch from several loaders, in given proportions.

    Args:
        loaders: loaders that yield batches as lists of any size.
        batch_size: number of elements of a batch.
        ratios: relative sampling ratio of each loader.
    """

    BATCH_COUNT = 100
    """number of batches whose sources are drawn together"""

    def __init__(self, loaders: Collection[Iterable[Any]], batch_size: int, ratios: Sequence[float]) -> None:
        if len(loaders) != len(ratios):
            raise ValueError(f"ratios must have one entry per loader ({len(loaders)}), got {len(ratios)}")
        self.loaders = loaders
        self.batch_size = batch_size
        self.ratios = ratios

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield batches until a drawn loader ends; an incomplete last batch is dropped."""
        streams = [chain.from_iterable(loader) for loader in self.loaders]
        while True:
            count = self.batch_size * self.BATCH_COUNT
            sources = random.choices(streams, self.ratios, k=count)
            for start in range(0, count, self.batch_size):
                # One source at a time: a generator must not end with another's StopIteration.
                batch = []
                for source in sources[start : start + self.batch_size]:
                    element = next(source, _END)
                    if element is _END:
                        return
                    batch.append(element)
                yield batch


_END: object = object()
