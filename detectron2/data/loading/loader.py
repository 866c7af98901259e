"""Loaders: batches from a data set and a sampler, and a training stream that can be resumed exactly."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils.data as torchdata

from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from ..common import AspectRatioGroupedDataset, ToIterableDataset
from .tolerant import CountedCollate, CountKeeper

__all__ = ["TrainLoader", "build_batch_data_loader", "trivial_batch_collator", "worker_init_reset_seed"]

logger = logging.getLogger(__name__)

Collate = Callable[[list[Any]], Any]


def trivial_batch_collator(batch: list[Any]) -> list[Any]:
    """Give the batch as the list that it is; images differ in size and are padded by the model."""
    return batch


def _untouched(element: Any) -> Any:
    # torch's default for single elements would turn numbers and arrays into tensors.
    return element


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed Python, NumPy and torch in a worker of the loader, each worker differently.

    Args:
        worker_id: number of the worker; unused, since torch's own seed of a worker counts it in.
    """
    seed_all_rng(torch.initial_seed() % 2**31)


class TrainLoader(torchdata.IterableDataset):
    """An endless loader of training batches whose position can be saved and restored.

    Every element is read with random generators seeded by its position in the sampler's stream, so that a resumed
    run sees the same images with the same augmentation as an unbroken one, whatever the number of workers. This
    needs a sampler with a ``state_dict`` (all of this package have one); with another, ``state_dict`` still
    restores the position but not the augmentation.

    Attributes of the torch loader beneath (``num_workers``, ``sampler``, …) can be read from this one.

    Args:
        loader: gives single elements (``group_size`` set) or lists of ``batch_size`` elements.
        stream: the :class:`ToIterableDataset` that ``loader`` reads; None for data that are iterable themselves.
        batch_size: images of a batch on this rank.
        grouped: put upright and other images into separate batches.
        collate_fn: makes a batch of a list of elements.
    """

    def __init__(
        self,
        loader: torchdata.DataLoader,
        stream: ToIterableDataset | None,
        batch_size: int,
        grouped: bool,
        collate_fn: Collate | None,
    ) -> None:
        self.loader = loader
        self.batch_size = batch_size
        self._keeper = CountKeeper(loader)
        self.dataset: Any = AspectRatioGroupedDataset(self._keeper, batch_size) if grouped else self._keeper
        self._stream = stream
        self._grouped = grouped
        self._collate = collate_fn if grouped else None
        # Batches taken in all, also in the runs before; and of these, the ones before this iteration.
        self._batches = self._batches_before = 0
        # Where the next iteration begins, and where the running one began (None: none runs).
        self._first = 0
        self._replay: tuple[int, ...] = ()
        self._start: tuple[int, tuple[int, ...]] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "loader" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["loader"], name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        first, replay = self._first, self._replay
        self._batches_before = self._batches = self._batches if self._start is None else 0
        self._start = (first, replay)
        self._first, self._replay = 0, ()
        if self._stream is not None:
            self._stream.first_position, self._stream.replay = first, replay
        else:
            self._place_stream(first)
        for batch in self.dataset:
            self._batches += 1
            yield batch if self._collate is None else self._collate(batch)

    # -------------------------------------------------------------- exact resume
    def _place_stream(self, first: int) -> None:
        """Tell data that are iterable themselves where to begin, also if that is at the start again."""
        if not first:
            self._keeper.left_out = [0] * len(self._keeper.left_out)
        data: Any = self.loader.dataset
        while not hasattr(data, "load_state_dict") and hasattr(data, "_dataset"):
            data = data._dataset
        if hasattr(data, "load_state_dict"):
            chunk = 1 if self._grouped else self.batch_size
            left_out = tuple(self._keeper.left_out)
            data.load_state_dict({"position": first, "chunk": chunk, "left_out": left_out})

    def _position(self, taken: int) -> int:
        """Position in the sampler's stream of the ``taken``-th element since this iteration began."""
        assert self._start is not None
        first, replay = self._start
        return replay[taken] if taken < len(replay) else first + taken - len(replay)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands after the batches taken so far: small and picklable."""
        state: dict[str, Any] = {
            "batches": self._batches, "batch_size": self.batch_size,
            "rank": comm.get_rank(), "world_size": comm.get_world_size(),
        }  # fmt: skip
        if self._start is None:
            state["next"], state["waiting"] = self._first, list(self._replay)
        elif self._grouped:
            state["next"] = self._position(self.dataset.taken)
            state["waiting"] = sorted(self._position(t) for group in self.dataset.waiting for t in group)
        else:
            taken = (self._batches - self._batches_before) * self.batch_size
            state["next"], state["waiting"] = self._start[0] + taken, []
        if any(self._keeper.left_out):
            state["left_out"] = list(self._keeper.left_out)
        sampler: Any = getattr(self._stream, "sampler", None)
        if hasattr(sampler, "state_dict"):
            state["sampler"] = sampler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration go on where :meth:`state_dict` was taken.

        The same numbers of ranks and images per batch give exactly the batches that an unbroken run would have
        had; after a change, the stream goes on behind as many images as were used.
        """
        sampler = getattr(self._stream, "sampler", None)
        if "sampler" in state and hasattr(sampler, "load_state_dict"):
            sampler.load_state_dict(state["sampler"])  # type: ignore[union-attr]
            self._seed_elements()
        world, rank = comm.get_world_size(), comm.get_rank()
        self._batches, self._start = int(state["batches"]), None
        self._keeper.left_out = [0] * len(self._keeper.left_out)
        if (state["world_size"], state["batch_size"]) != (world, self.batch_size):
            used = state["batches"] * state["batch_size"] * state["world_size"]
            self._first, self._replay = used // world, ()
            logger.info(
                "Other batch size or number of processes than before: going on behind %d images", used
            )
        elif state["rank"] != rank and self._grouped and self._stream is not None:
            self._first, self._replay = self._regroup(int(state["batches"]))
        else:
            self._first, self._replay = int(state["next"]), tuple(state["waiting"])
            left_out = state.get("left_out", ())
            if state["rank"] == rank and len(left_out) == len(self._keeper.left_out):
                self._keeper.left_out = list(left_out)

    def _regroup(self, batches: int) -> tuple[int, tuple[int, ...]]:
        """Work out from the records alone where this rank stands, given a state that another rank saved."""
        assert self._stream is not None
        records = getattr(self._stream.dataset, "_dataset", self._stream.dataset)
        groups: tuple[list[int], list[int]] = ([], [])
        position = 0
        for position, index in enumerate(self._stream.sampler):
            if batches == 0:
                break
            record = records[index]
            group = groups[int(record["width"] <= record["height"])]
            group.append(position)
            if len(group) == self.batch_size:
                group.clear()
                batches -= 1
        return position, tuple(sorted(groups[0] + groups[1]))

    def _seed_elements(self) -> None:
        seed = getattr(getattr(self._stream, "sampler", None), "_seed", None)
        if self._stream is not None and seed is not None:
            self._stream.element_seed = (int(seed) % 2**63, comm.get_rank())


def _images_per_rank(total_batch_size: int | None, single_gpu_batch_size: int | None) -> int:
    if single_gpu_batch_size:
        return single_gpu_batch_size
    world = comm.get_world_size()
    if not total_batch_size or total_batch_size < 1 or total_batch_size % world:
        raise ValueError(
            f"total_batch_size (SOLVER.IMS_PER_BATCH) must be a positive multiple of the {world} processes, got {total_batch_size}"
        )
    return total_batch_size // world


def build_batch_data_loader(
    dataset: Any,
    sampler: Any,
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
    **kwargs: Any,
) -> Any:
    """Make a loader of training batches.

    Args:
        dataset: with an index, or iterable.
        sampler: a ``torch.utils.data.Sampler``; None for an iterable data set.
        total_batch_size: images of a batch over all ranks, which must divide it.
        aspect_ratio_grouping: keep upright images and others in separate batches; elements need ``width`` and
            ``height``.
        num_workers: processes that read, per rank.
        collate_fn: makes a batch of a list of elements; default: the list itself.
        drop_last: leave out a last batch that is not full, for streams that end.
        single_gpu_batch_size: images of a batch on this rank, instead of ``total_batch_size``.
        prefetch_factor: batches that each worker holds ready.
        persistent_workers: keep workers between iterations.
        pin_memory: put tensors into pinned memory.
        seed: of the workers' own random generators.
        **kwargs: go to ``torch.utils.data.DataLoader``.

    Returns:
        A :class:`TrainLoader`, an iterable of batches with ``state_dict`` and ``load_state_dict``.
    """
    batch_size = _images_per_rank(total_batch_size, single_gpu_batch_size)
    logger.info("Batches of %d images on each process", batch_size)
    stream: ToIterableDataset | None = None
    if isinstance(dataset, torchdata.IterableDataset):
        if sampler is not None:
            raise ValueError("an iterable data set has its own order: sampler must be None")
    else:
        if sampler is None:
            raise ValueError("a data set with an index needs a sampler")
        chunk = 1 if aspect_ratio_grouping else batch_size
        dataset = stream = ToIterableDataset(dataset, sampler, shard_chunk_size=chunk)
    if num_workers > 0:
        kwargs |= {"persistent_workers": persistent_workers, "prefetch_factor": prefetch_factor}
    if seed is not None:
        kwargs["generator"] = torch.Generator().manual_seed(seed)
    if aspect_ratio_grouping:
        # Elements pass singly and are put into batches here, after the workers.
        kwargs |= {"batch_size": None, "collate_fn": _untouched}
    else:
        kwargs |= {
            "batch_size": batch_size,
            "drop_last": drop_last,
            "collate_fn": CountedCollate(collate_fn or trivial_batch_collator),
        }
    loader = torchdata.DataLoader(
        dataset,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=worker_init_reset_seed,
        **kwargs,
    )
    made = TrainLoader(loader, stream, batch_size, aspect_ratio_grouping, collate_fn)
    made._seed_elements()
    return made
