"""Batches whose elements belong to one group."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler, Sampler

from detectron2.utils.errors import BadType, BadValue

__all__ = ["GroupedBatchSampler"]


class GroupedBatchSampler(BatchSampler):
    """Collect the indices of another sampler by group, and yield a batch whenever a group is full.

    Groups keep the order of the sampler; those that are not full at its end are dropped.

    Args:
        sampler: yields indices.
        group_ids: group of each index.
        batch_size: indices per batch, at least 1.

    Raises:
        TypeError: ``sampler`` is not a Sampler.
    """

    def __init__(self, sampler: Sampler | Iterable[int], group_ids: Sequence[int], batch_size: int) -> None:
        if not isinstance(sampler, Sampler):
            raise BadType(f"sampler must be a torch.utils.data.Sampler, got {type(sampler).__name__}")
        ids = np.asarray(group_ids)
        if ids.ndim != 1:
            raise BadValue(f"group_ids must be flat, one group per index, got shape {ids.shape}")
        if batch_size < 1:
            raise BadValue(f"batch_size must be at least 1, got {batch_size}")
        self.sampler = sampler
        self.group_ids = ids
        self.batch_size = batch_size
        self.buffer_per_group: dict[Any, list[int]] = {}

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[Any, list[int]] = defaultdict(list)
        self.buffer_per_group = waiting
        for index in self.sampler:
            members = waiting[self.group_ids[index].item()]
            members.append(index)
            if len(members) == self.batch_size:
                yield members[:]
                members.clear()

    def __len__(self) -> int:
        # list() reads a TypeError as "length unknown".
        raise BadType("the number of batches depends on the order in which the groups fill up")
