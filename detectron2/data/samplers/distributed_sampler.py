"""Index streams for training and inference, split over the processes of a run.

Every training sampler is an endless stream that all ranks compute identically from one seed; a rank keeps every
``world_size``-th index. The stream depends on the seed alone, which makes exact resuming possible: the loader saves the
seed and the number of indices used (``state_dict``), and continues there.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler

from detectron2.utils import comm
from detectron2.utils.errors import BadType, BadValue

from ..datasets.coco_json.lazy_list import LazyRecords

__all__ = [
    "InferenceSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "TrainingSampler",
]

logger = logging.getLogger(__name__)


def _agreed_seed(seed: int | None) -> int:
    """Return the given seed, or a random one that all ranks share."""
    return int(comm.shared_random_seed() if seed is None else seed)


def _check_size(size: object, least: int = 1) -> int:
    if isinstance(size, bool) or not isinstance(size, int):
        raise BadType(
            f"size is the number of records and must be an int, got {type(size).__name__}: {size!r}"
        )
    if size < least:
        raise BadValue(
            f"size must be at least {least}, got {size}: the data set has no records to sample from"
        )
    return size


def as_ints(indices: Tensor) -> Iterator[int]:
    """Yield the elements of a tensor; one list of all would take four times its memory in each worker."""
    for piece in indices.split(4096):
        yield from piece.tolist()


class _SeededStream:
    """An endless stream of indices, split over the ranks, whose seed can be saved and restored."""

    _seed: int

    def state_dict(self) -> dict[str, Any]:
        """Return the seed of the stream."""
        return {"seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the seed of a saved stream; existing iterators are not affected."""
        self._seed = int(state["seed"])

    def _infinite_indices(self) -> Iterator[int]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._infinite_indices(), comm.get_rank(), None, comm.get_world_size())


def shares_one_stream(sampler: Sampler) -> TypeGuard[_SeededStream]:
    """Return whether each rank takes its share of ``_infinite_indices``; not if a subclass iterates in its own way."""
    iterates: object = type(sampler).__iter__
    return isinstance(sampler, _SeededStream) and iterates is _SeededStream.__iter__


class TrainingSampler(_SeededStream, Sampler):
    """Endless stream of shuffled epochs, distributed to the ranks one index at a time.

    Args:
        size: number of records.
        shuffle: shuffle each epoch; otherwise the records come in order.
        seed: the same on all ranks; None: drawn once and shared.

    Raises:
        TypeError: ``size`` is not an int.
        ValueError: ``size`` is below 1.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        self._size = _check_size(size)
        self._shuffle = shuffle
        self._seed = _agreed_seed(seed)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            if self._shuffle:
                yield from as_ints(torch.randperm(self._size, generator=generator))
            else:
                yield from range(self._size)


class RandomSubsetTrainingSampler(TrainingSampler):
    """Like :class:`TrainingSampler`, on a random subset of the data that is drawn once.

    Args:
        size: number of records of the whole data set.
        subset_ratio: share of the records to use, in (0, 1].
        shuffle: shuffle each epoch; otherwise the subset is repeated in the order drawn.
        seed_shuffle: seed of the order.
        seed_subset: seed of the subset, the same on all ranks; None: drawn once and shared.
    """

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ) -> None:
        super().__init__(size=size, shuffle=shuffle, seed=seed_shuffle)
        if not 0.0 < subset_ratio <= 1.0:
            raise BadValue(f"subset_ratio must be above 0 and at most 1, got {subset_ratio}")
        self._size_subset = int(size * subset_ratio)
        if self._size_subset < 1:
            raise BadValue(f"subset_ratio {subset_ratio} of {size} records is less than one record")
        self._draw_subset(_agreed_seed(seed_subset))
        logger.info("Training on a random subset: %d of %d records", self._size_subset, size)

    def _draw_subset(self, seed: int) -> None:
        self._seed_subset = seed
        order = torch.randperm(self._size, generator=torch.Generator().manual_seed(seed))
        self._indexes_subset = order[: self._size_subset]

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            part = self._indexes_subset
            if self._shuffle:
                part = part[torch.randperm(len(part), generator=generator)]
            yield from as_ints(part)

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self._seed, "seed_subset": self._seed_subset}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._draw_subset(int(state["seed_subset"]))


class RepeatFactorTrainingSampler(_SeededStream, Sampler):
    """Endless stream in which record ``i`` occurs ``repeat_factors[i]`` times per epoch on average.

    Each epoch rounds the factors up or down at random, with the fraction as the probability of rounding up.

    Args:
        repeat_factors: [N] float, one factor per record, not negative.
        shuffle: shuffle each epoch.
        seed: the same on all ranks; None: drawn once and shared.

    Reference: LVIS: A Dataset for Large Vocabulary Instance Segmentation, appendix B,
    https://arxiv.org/abs/1908.03195
    """

    def __init__(self, repeat_factors: Tensor, *, shuffle: bool = True, seed: int | None = None) -> None:
        factors = torch.as_tensor(repeat_factors, dtype=torch.float32)
        if factors.ndim != 1 or len(factors) == 0:
            raise BadValue(
                f"repeat_factors must be a vector with one factor per record, got shape {tuple(factors.shape)}"
            )
        if not bool(torch.isfinite(factors).all()) or bool((factors < 0).any()) or float(factors.sum()) == 0:
            raise BadValue("repeat_factors must be finite, not negative, and not all zero")
        self._shuffle = shuffle
        self._seed = _agreed_seed(seed)
        self._int_part = torch.trunc(factors)
        self._frac_part = factors - self._int_part

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: Sequence[dict[str, Any]], repeat_thresh: float, sqrt: bool = True
    ) -> Tensor:
        """Compute factors that show images with rare categories more often.

        A category on a share f of all images gets max(1, sqrt(t / f)); an image gets the largest factor of its
        categories, or 1 if it has none.

        Args:
            dataset_dicts: records with ``annotations``, each with a ``category_id``.
            repeat_thresh: the share t below which a category is repeated, 0 to 1.
            sqrt: false uses t / f without the square root, which repeats more often.

        Returns:
            [N] float tensor, all at least 1.
        """
        images, categories, images_with = categories_on_images(dataset_dicts)
        ratios = repeat_thresh * len(dataset_dicts) / images_with
        factors = np.ones(len(dataset_dicts))
        np.maximum.at(factors, images, (np.sqrt(ratios) if sqrt else ratios)[categories])
        return torch.from_numpy(factors).float()

    def _epoch_indices(self, generator: torch.Generator) -> Tensor:
        extra = torch.rand(len(self._frac_part), generator=generator) < self._frac_part
        times = (self._int_part + extra).to(torch.int64)
        return torch.arange(len(times)).repeat_interleave(times)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            indices = self._epoch_indices(generator)
            if self._shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from as_ints(indices)


def categories_on_images(
    records: Sequence[dict[str, Any]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find the categories on each image, without parsing lazy annotations if possible.

    Args:
        records: with ``annotations``, each with a ``category_id``.

    Returns:
        Pairs of an image and a category, none twice: positions of the records, and categories numbered from 0; and the
        number of images with each of these categories.
    """
    found = records.categories_on_images() if isinstance(records, LazyRecords) else None
    if found is None:
        present = [_categories_of(record) for record in records]
        images = np.repeat(np.arange(len(present)), [len(categories) for categories in present])
        found = images, np.asarray([c for categories in present for c in categories], dtype=np.int64)
    _, numbers, counts = np.unique(found[1], return_inverse=True, return_counts=True)
    return found[0], numbers.reshape(-1), counts


def _categories_of(record: dict[str, Any]) -> set[int]:
    summary = getattr(record, "annotation_summary", None)
    found = summary() if summary is not None else None
    if found is not None:
        return set(found.category_ids)
    return {a["category_id"] for a in record.get("annotations", ())}


class InferenceSampler(Sampler):
    """Yields every index once, in consecutive blocks, one block per rank; block sizes differ by at most one.

    Args:
        size: number of records.

    Raises:
        ValueError: ``size`` is below 1.
    """

    def __init__(self, size: int) -> None:
        self._size = _check_size(size)
        self._local_indices = self._get_local_indices(size, comm.get_world_size(), comm.get_rank())

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        base, longer = divmod(total_size, world_size)
        start = rank * base + min(rank, longer)
        return range(start, start + base + int(rank < longer))

    def __iter__(self) -> Iterator[int]:
        return iter(self._local_indices)

    def __len__(self) -> int:
        return len(self._local_indices)
