"""Training loader that can be resumed exactly."""

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.utils.data as torchdata
from torch.utils.data import Sampler

from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.errors import BadValue

from ..common import AspectRatioGroupedDataset, DatasetFromList, Indexed, MapDataset, ToIterableDataset
from ..samplers.distributed_sampler import shares_one_stream
from .grouped import BatchPlan, GroupedStream
from .stream import Placed, PlacedCollate, PlacedStream, numbers_samples

__all__ = ["TrainLoader", "build_batch_data_loader", "trivial_batch_collator", "worker_init_reset_seed"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Collate = Callable[[list[Any]], Any]


def trivial_batch_collator(batch: list[T]) -> list[T]:
    """Return the list unchanged: images differ in size and are padded by the model."""
    return batch


def _untouched(element: T) -> T:
    # torch's default would convert numbers and arrays to tensors.
    return element


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed Python, NumPy and torch in a worker of the loader, each worker differently.

    Args:
        worker_id: number of the worker.
    """
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


_running: dict[int, Iterator[Placed]] = {}  # iterators that have processes, see _from_processes


def _from_processes(loader: torchdata.DataLoader) -> Iterator[Placed]:
    """Iterate over a loader such that its processes end with the iterator, at once.

    The garbage collector may find a trainer that was dropped, and torch's iterator with it. It then closes the queues
    before the iterator tells its processes to end, and the program waits 5 seconds for each of them. Being held here,
    the iterator is no garbage until this generator is closed.
    """
    iterator = iter(loader)
    _running[id(iterator)] = iterator
    try:
        yield from iterator
    finally:
        del _running[id(iterator)]


class _PlacedGroups(AspectRatioGroupedDataset):
    def _is_upright(self, element: Placed) -> bool:
        return super()._is_upright(element.content)


class TrainLoader(torchdata.IterableDataset):
    """An endless loader of training batches whose position can be saved and restored.

    Every element is read with random generators seeded by its position in the stream of all ranks. So the batches of all
    ranks together, and the augmentation of each image, depend neither on the numbers of ranks and workers nor on where a
    run was resumed. This needs a sampler with a ``state_dict``, as all samplers of this package have; with another sampler,
    only the position is restored, not the augmentation. An iterable data set is resumed if it numbers its samples, as an
    endless ``TarDataset`` does.

    Batches of one orientation are the same for any number of ranks if records have ``width`` and ``height``. Those of
    iterable data sets, and all with ``seed_by_position`` false, consist of what each rank reads by itself.

    Attributes of the underlying torch loader (``num_workers``, ``sampler``, …) can be read from this one.

    Args:
        loader: yields placed elements, or batches of ``batch_size`` elements.
        source: the sampled or iterable data set that ``loader`` reads.
        batch_size: images per batch on this rank.
        grouped: batch portrait and landscape images separately.
        collate_fn: turns a list of elements into a batch, if ``loader`` yields elements.
        seed_by_position: seed the generators for every element; otherwise the state of the generators is left alone,
            and ``state_dict`` does not restore the augmentation.
    """

    def __init__(
        self,
        loader: torchdata.DataLoader,
        source: torchdata.IterableDataset,
        batch_size: int,
        grouped: bool,
        collate_fn: Collate | None,
        seed_by_position: bool = True,
    ) -> None:
        self.loader = loader
        self._seed_by_position = seed_by_position
        self.batch_size = batch_size
        self.source = source
        self._numbers_samples = numbers_samples(source)
        self._planned = source if isinstance(source, GroupedStream) else None
        self._groups = _PlacedGroups((), batch_size) if grouped and self._planned is None else None
        self._collate = collate_fn or trivial_batch_collator
        self._started = False
        self._batches = 0  # yielded in total, including earlier runs
        # The first position not read yet, and those whose images wait for their batch: in the stream of this rank, or
        # in that of all ranks if the batches are planned.
        self._next = 0
        self._waiting: list[int] = []
        self._plan: BatchPlan | None = None
        self._planned_before = 0  # batches before those of the plan

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "loader" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["loader"], name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if self._started:
            self._batches, self._next, self._waiting = 0, 0, []
        self._started = True
        if self.loader.batch_size is not None:
            batches = (placed.content for placed in self._received())
        else:
            batches = (self._collate([placed.content for placed in group]) for group in self._grouped())
        for batch in batches:
            self._batches += 1
            yield batch

    def _grouped(self) -> Iterator[list[Placed]]:
        """Put the elements of the loader into batches."""
        received = self._received()
        if self._groups is not None:
            self._groups.dataset = received
            yield from self._groups
        while group := list(islice(received, self.batch_size)):
            yield group

    # -------------------------------------------------------------- exact resume
    def _received(self) -> Iterator[Placed]:
        """Yield the elements of the loader from the saved position, and keep track of the position."""
        if self._numbers_samples:
            self.source.start_at(self._next, self._waiting, self._element_seed())  # type: ignore[attr-defined]
        if self._planned is not None:
            self._plan, self._planned_before = self._planned.plan(), self._batches
        for placed in _from_processes(self.loader):
            self._next = max(self._next, placed.position + 1)
            yield placed

    def _element_seed(self) -> tuple[int, int] | None:
        seed = getattr(self.sampled_by, "_seed", getattr(self.source, "seed", None))
        return None if seed is None or not self._seed_by_position else (int(seed) % 2**63, 0)

    @property
    def sampled_by(self) -> Any:
        """The sampler of the stream; None for an iterable data set."""
        return getattr(self.source, "sampler", None)

    def _rest(self) -> tuple[int, list[int]]:
        """Return the first position after the batches yielded so far, and the earlier ones that are in none."""
        if self._started and self._plan is not None:
            while self._plan.batches < self._batches - self._planned_before:
                next(self._plan)
            return self._plan.rest()
        if self._started and self._groups is not None:
            return self._next, sorted(placed.position for placed in self._groups.waiting())
        return self._next, sorted(self._waiting)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the stream after the batches yielded so far."""
        first, waiting = self._rest()
        state: dict[str, Any] = {
            "batches": self._batches, "batch_size": self.batch_size, "world_size": comm.get_world_size(),
            "next": first, "waiting": waiting, "of_all_ranks": self._planned is not None,
        }  # fmt: skip
        if hasattr(self.sampled_by, "state_dict"):
            state["sampler"] = self.sampled_by.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration continue where :meth:`state_dict` was taken.

        The batches of all ranks are those of an uninterrupted run, on any number of ranks and workers with the same total
        batch. With another one, the stream continues with the images that were not used. Only where each rank makes
        batches of one orientation by itself, other numbers of ranks continue after as many images as were used.
        """
        if "sampler" in state and hasattr(self.sampled_by, "load_state_dict"):
            self.sampled_by.load_state_dict(state["sampler"])
        self._batches, self._started = int(state["batches"]), False
        planned = self._planned is not None
        world = comm.get_world_size()
        same = (state["world_size"], state["batch_size"]) == (world, self.batch_size)
        if state.get("of_all_ranks", False) == planned and (planned or same):
            self._next, self._waiting = int(state["next"]), list(state["waiting"])
            return
        used = state["batches"] * state["batch_size"] * state["world_size"]
        self._next, self._waiting = used if planned else used // world, []
        logger.info("Continuing after %d images", used)


def _images_per_rank(total_batch_size: int | None, single_gpu_batch_size: int | None) -> int:
    if single_gpu_batch_size:
        return single_gpu_batch_size
    world = comm.get_world_size()
    if not total_batch_size or total_batch_size < 1 or total_batch_size % world:
        raise ValueError(
            f"total_batch_size (SOLVER.IMS_PER_BATCH) must be a positive multiple of the {world} processes, got {total_batch_size}"
        )
    return total_batch_size // world


def _as_stream(
    dataset: Indexed | torchdata.IterableDataset, sampler: Sampler | None, batch_size: int, planned: bool
) -> torchdata.IterableDataset:
    """Return a stream of a map-style or iterable data set; raise if it does not fit the sampler.

    Args:
        dataset: to read.
        sampler: of a map-style data set.
        batch_size: images per batch on this rank.
        planned: make batches of one orientation that are the same for any number of ranks, if possible.
    """
    if isinstance(dataset, torchdata.IterableDataset):
        if sampler is not None:
            raise ValueError("an iterable data set has its own order: sampler must be None")
        return dataset
    if sampler is None:
        raise ValueError("a map-style data set needs a sampler")
    upright = _upright(dataset)
    if planned and upright is not None and shares_one_stream(sampler):
        return GroupedStream(dataset, sampler, upright, batch_size * comm.get_world_size())
    return ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)


def _upright(dataset: object) -> npt.NDArray[np.bool_] | None:
    """Return whether each image is at most as wide as high, if the records are at hand."""
    records = dataset._dataset if isinstance(dataset, MapDataset) else dataset
    return records.upright if isinstance(records, DatasetFromList) else None


def build_batch_data_loader(
    dataset: Indexed | torchdata.IterableDataset,
    sampler: Sampler | None,
    total_batch_size: int,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Collate | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    prefetch_factor: int | None = 2,
    persistent_workers: bool = False,
    pin_memory: bool = False,
    seed: int | None = None,
    augmentation_seed: str = "position",
    **kwargs: Any,
) -> TrainLoader:
    """Build a loader of training batches.

    Args:
        dataset: map-style or iterable.
        sampler: a ``torch.utils.data.Sampler``; None for an iterable data set.
        total_batch_size: images per batch over all ranks; must be a multiple of the number of ranks.
        aspect_ratio_grouping: batch portrait and landscape images separately, by ``width`` and ``height``.
        num_workers: worker processes per rank.
        collate_fn: turns a list of elements into a batch; default: the list itself.
        drop_last: drop an incomplete last batch, for streams that end.
        single_gpu_batch_size: images per batch on this rank, instead of ``total_batch_size``.
        prefetch_factor, persistent_workers, pin_memory: see ``torch.utils.data.DataLoader``.
        seed: seeds the workers' own random generators.
        augmentation_seed: "position" seeds the generators for each element by its position in the stream, which
            makes resuming exact; "worker" draws from the generators of each worker, or the global ones without
            workers, which gives the same random numbers as Detectron2.
        **kwargs: passed to ``DataLoader``.

    Returns:
        An iterable of batches with ``state_dict`` and ``load_state_dict``.
    """
    if augmentation_seed not in ("position", "worker"):
        raise BadValue(
            f'augmentation_seed (DATALOADER.AUGMENTATION_SEED) must be "position" or "worker", got {augmentation_seed!r}'
        )
    batch_size = _images_per_rank(total_batch_size, single_gpu_batch_size)
    logger.info("Batches of %d images on each process", batch_size)
    by_position = augmentation_seed == "position"
    source = _as_stream(dataset, sampler, batch_size, planned=aspect_ratio_grouping and by_position)
    if num_workers > 0:
        kwargs |= {"persistent_workers": persistent_workers, "prefetch_factor": prefetch_factor}
    if seed is not None:
        kwargs["generator"] = torch.Generator().manual_seed(seed)
    # Workers return batches where each can read one by itself, or else single elements.
    if aspect_ratio_grouping or (sampler is None and numbers_samples(source)):
        kwargs |= {"batch_size": None, "collate_fn": _untouched}
        if isinstance(source, ToIterableDataset):
            source.shard_chunk_size = 1
    else:
        collate = PlacedCollate(collate_fn or trivial_batch_collator)
        kwargs |= {"batch_size": batch_size, "drop_last": drop_last, "collate_fn": collate}
    kwargs |= {"num_workers": num_workers, "pin_memory": pin_memory, "worker_init_fn": worker_init_reset_seed}
    loader = torchdata.DataLoader(PlacedStream(source), **kwargs)
    return TrainLoader(loader, source, batch_size, aspect_ratio_grouping, collate_fn, by_position)
