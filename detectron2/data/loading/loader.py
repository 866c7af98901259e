"""Training loader that can be resumed exactly."""

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.utils.data as torchdata
from torch.utils.data import Sampler

from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.errors import BadValue

from ..common import AspectRatioGroupedDataset, Indexed, MapDataset, ToIterableDataset
from .stream import Placed, PlacedCollate, PlacedStream

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


class _PlacedGroups(AspectRatioGroupedDataset):
    def _is_upright(self, element: Placed) -> bool:
        return super()._is_upright(element.content)


class TrainLoader(torchdata.IterableDataset):
    """An endless loader of training batches whose position can be saved and restored.

    Every element is read with random generators seeded by its position in the sampler's stream. A resumed run thus
    sees the same images with the same augmentation as an uninterrupted one, for any number of workers. This needs a
    sampler with a ``state_dict``, as all samplers of this package have; with another sampler, only the position is
    restored, not the augmentation. An iterable data set is resumed by its own ``load_state_dict``, see
    ``TarDataset``.

    Attributes of the underlying torch loader (``num_workers``, ``sampler``, …) can be read from this one.

    Args:
        loader: yields placed elements (``grouped``) or batches of ``batch_size`` elements.
        source: the sampled or iterable data set that ``loader`` reads.
        batch_size: images per batch on this rank.
        grouped: batch portrait and landscape images separately.
        collate_fn: turns a list of elements into a batch, if ``grouped``.
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
        self._stream = source if isinstance(source, ToIterableDataset) else None
        self._groups = _PlacedGroups((), batch_size) if grouped else None
        self._collate = collate_fn or trivial_batch_collator
        self._started = False
        self._batches = 0  # yielded in total, including earlier runs
        # Position in a sampled stream: the first position not read yet, and those whose images wait for their batch.
        self._next = 0
        self._waiting: list[int] = []
        # Position in an iterable stream: the elements read by each worker, and the worker whose turn it is.
        self._read = [0] * max(1, loader.num_workers)
        self._turn = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "loader" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["loader"], name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if self._started:
            self._batches, self._next, self._waiting, self._turn = 0, 0, [], 0
            self._read = [0] * len(self._read)
        self._started = True
        if self._groups is None:
            batches = (placed.content for placed in self._received())
        else:
            self._groups.dataset = self._received()
            batches = (self._collate([placed.content for placed in group]) for group in self._groups)
        for batch in batches:
            self._batches += 1
            yield batch

    # -------------------------------------------------------------- exact resume
    def _received(self) -> Iterator[Placed]:
        """Yield the elements of the loader from the saved position, and keep track of the position."""
        workers, turn, before = len(self._read), self._turn, list(self._read)
        if self._stream is not None:
            self._stream.start_at(self._next, self._waiting, self._element_seed())
        elif hasattr(self.source, "load_state_dict"):
            self.source.load_state_dict({"read": before, "turn": turn})
        for placed in self.loader:
            self._next = max(self._next, placed.position + 1)
            # The first worker continues the part of the worker whose turn it was.
            part = (placed.worker + turn) % workers
            self._read[part], self._turn = before[part] + placed.position, (part + 1) % workers
            yield placed

    def _element_seed(self) -> tuple[int, int] | None:
        seed = getattr(self.sampled_by, "_seed", None) if self._seed_by_position else None
        return None if seed is None else (int(seed) % 2**63, comm.get_rank())

    @property
    def sampled_by(self) -> Any:
        """The sampler of the stream; None for an iterable data set."""
        return None if self._stream is None else self._stream.sampler

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the stream after the batches yielded so far."""
        state: dict[str, Any] = {
            "batches": self._batches, "batch_size": self.batch_size,
            "rank": comm.get_rank(), "world_size": comm.get_world_size(),
        }  # fmt: skip
        if self._stream is None:
            state |= {"read": list(self._read), "turn": self._turn}
        else:
            waiting = self._waiting
            if self._started and self._groups is not None:
                waiting = [placed.position for placed in self._groups.waiting()]
            state |= {"next": self._next, "waiting": sorted(waiting)}
        if hasattr(self.sampled_by, "state_dict"):
            state["sampler"] = self.sampled_by.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration continue where :meth:`state_dict` was taken.

        With the same numbers of ranks and images per batch (and of workers, for an iterable data set), the batches
        are exactly those of an uninterrupted run; otherwise the stream continues after the number of images used.
        """
        if "sampler" in state and hasattr(self.sampled_by, "load_state_dict"):
            self.sampled_by.load_state_dict(state["sampler"])
        self._batches, self._started = int(state["batches"]), False
        self._waiting, self._turn = [], 0
        world, workers = comm.get_world_size(), len(self._read)
        used = state["batches"] * state["batch_size"] * state["world_size"]
        changed = (state["world_size"], state["batch_size"]) != (world, self.batch_size)
        if self._stream is None:
            if changed or len(state.get("read", ())) != workers:
                self._read = [used // world // workers] * workers
            else:
                self._read, self._turn = list(state["read"]), int(state["turn"])
        elif changed:
            self._next = used // world
            logger.info(
                "Other batch size or number of processes than before: continuing after %d images", used
            )
        elif state["rank"] != comm.get_rank() and self._groups is not None:
            self._next, self._waiting = self._regroup(int(state["batches"]))
        else:
            self._next, self._waiting = int(state["next"]), list(state["waiting"])

    def _regroup(self, batches: int) -> tuple[int, list[int]]:
        """Compute the position of this rank from the records alone, given a state that another rank saved."""
        assert self._stream is not None
        records: Any = self._stream.dataset
        records = records._dataset if isinstance(records, MapDataset) else records
        sizes = (Placed(records[index], 0, position) for position, index in enumerate(self.sampled_by))
        groups = _PlacedGroups(sizes, self.batch_size)
        last = max((placed.position for group in islice(groups, batches) for placed in group), default=-1)
        return last + 1, sorted(placed.position for placed in groups.waiting())


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
    dataset: Indexed | torchdata.IterableDataset, sampler: Sampler | None, chunk: int
) -> torchdata.IterableDataset:
    """Return a stream of a map-style or iterable data set; raise if it does not fit the sampler."""
    if isinstance(dataset, torchdata.IterableDataset):
        if sampler is not None:
            raise ValueError("an iterable data set has its own order: sampler must be None")
        return dataset
    if sampler is None:
        raise ValueError("a map-style data set needs a sampler")
    return ToIterableDataset(dataset, sampler, shard_chunk_size=chunk)


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
    source = _as_stream(dataset, sampler, 1 if aspect_ratio_grouping else batch_size)
    if num_workers > 0:
        kwargs |= {"persistent_workers": persistent_workers, "prefetch_factor": prefetch_factor}
    if seed is not None:
        kwargs["generator"] = torch.Generator().manual_seed(seed)
    if aspect_ratio_grouping:  # workers return single elements, which TrainLoader puts into batches
        kwargs |= {"batch_size": None, "collate_fn": _untouched}
    else:
        collate = PlacedCollate(collate_fn or trivial_batch_collator)
        kwargs |= {"batch_size": batch_size, "drop_last": drop_last, "collate_fn": collate}
    kwargs |= {"num_workers": num_workers, "pin_memory": pin_memory, "worker_init_fn": worker_init_reset_seed}
    loader = torchdata.DataLoader(PlacedStream(source), **kwargs)
    by_position = augmentation_seed == "position"
    return TrainLoader(loader, source, batch_size, aspect_ratio_grouping, collate_fn, by_position)
