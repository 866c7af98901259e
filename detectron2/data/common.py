"""Data sets for torch's ``DataLoader``: from lists, mapped, sampled, and grouped by aspect ratio."""

import contextlib
import copy
import itertools
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, SupportsInt, TypeVar

import numpy as np
import numpy.typing as npt
from torch.utils import data
from torch.utils.data import Sampler

from detectron2.utils import comm
from detectron2.utils.errors import BadKey, BadType, BadValue
from detectron2.utils.reexports import passed_on
from detectron2.utils.serialize import PicklableWrapper

from .datasets.coco_json.lazy_list import LazyRecords, of_images
from .loading.shared_list import PackedList, SharedPackedList
from .loading.stream import numbers_samples, reading, worker_share

__all__ = [
    "AspectRatioGroupedDataset",
    "DatasetFromList",
    "MapDataset",
    "ToIterableDataset",
    "set_default_dataset_from_list_serialize_method",
]

__getattr__ = passed_on(__name__)

logger = logging.getLogger(__name__)

NumpySerializedList = PackedList
TorchSerializedList = SharedPackedList

T = TypeVar("T")
Serialize = Callable[[list[Any]], Sequence[Any]]
_serialize_method: Serialize = SharedPackedList


@contextlib.contextmanager
def set_default_dataset_from_list_serialize_method(new: Serialize) -> Iterator[None]:
    """Let ``DatasetFromList(..., serialize=True)`` store its list with ``new`` within the block.

    Args:
        new: converts a list to a sequence of the same elements.
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
        copy: return a deep copy at each access; only matters without ``serialize``.
        serialize: pack the elements into one buffer that all ranks and workers of a machine share (each access then
            creates a new object), or a function that packs the list.

    Attributes:
        upright: bool [N], whether each image is at most as wide as high; None if some element does not say.
    """

    def __init__(self, lst: list[Any], copy: bool = True, serialize: bool | Serialize = True) -> None:
        if not isinstance(serialize, (bool, Callable)):  # type: ignore[arg-type]
            raise BadType(
                f"serialize must be a bool or a function of the list, got {type(serialize).__name__}"
            )
        self._copy = copy
        self.upright = _upright(lst)
        self._serialized = bool(serialize)
        method = serialize if callable(serialize) else _serialize_method
        self._lst: Sequence[Any] = method(lst) if self._serialized else lst

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: int) -> Any:
        element = self._lst[idx]
        return copy.deepcopy(element) if self._copy and not self._serialized else element


def _upright(records: list[Any]) -> npt.NDArray[np.bool_] | None:
    found = of_images(records, lambda source: source.upright()) if isinstance(records, LazyRecords) else None
    if found is not None:
        return found
    with contextlib.suppress(KeyError, TypeError, IndexError):
        return np.fromiter((r["width"] <= r["height"] for r in records), dtype=np.bool_, count=len(records))
    return None


class Indexed(Protocol):
    """A list, a ``torch.utils.data.Dataset`` with an index, or the like."""

    def __getitem__(self, idx: int, /) -> Any: ...

    def __len__(self) -> int: ...


class MapDataset(data.Dataset):
    """Apply a function to each element of a data set.

    The function may return None for an element that cannot be used. A map-style data set then takes another element
    at random, chosen by the index alone so that reruns agree; an iterable one skips the element. ``num_skipped``
    counts such elements.

    An iterable data set that numbers its samples, such as ``TarDataset``, offers others in place of such an element.

    Args:
        dataset: with ``__getitem__`` and ``__len__``, or iterable (then the result is iterable too).
        map_func: maps an element.
    """

    max_attempts = 1000

    def __new__(cls, dataset: object, map_func: Callable[[Any], Any]) -> Any:
        if isinstance(dataset, data.IterableDataset):
            in_turns = numbers_samples(dataset) and hasattr(dataset, "turns")
            kind = _MapNumberedDataset if in_turns else _MapIterableDataset
            return kind(dataset, map_func)
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[Any, Callable[[Any], Any]]:
        return self._dataset, self._map_func

    def __init__(self, dataset: Indexed | data.IterableDataset, map_func: Callable[[Any], Any]) -> None:
        self._dataset: Any = dataset
        self._map_func = PicklableWrapper(map_func)  # so that lambdas reach spawned workers
        self.num_skipped = 0

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: SupportsInt) -> Any:
        index = int(idx)
        for attempt in range(self.max_attempts):
            mapped = self._map_func(self._dataset[index])
            if mapped is not None:
                return mapped
            self.num_skipped += 1
            if attempt == 2:
                logger.warning(
                    "Three elements in a row could not be mapped, the first has index %d", int(idx)
                )
            index = random.Random(f"{int(idx)}/{attempt}").randrange(len(self))
        raise RuntimeError(_rejects_all(int(idx), self.max_attempts))


class _MapIterableDataset(data.IterableDataset):
    """:class:`MapDataset` of an iterable data set."""

    def __init__(self, dataset: data.IterableDataset, map_func: Callable[[Any], Any]) -> None:
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)  # so that lambdas reach spawned workers
        self.num_skipped = 0

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return (m for m in map(self._mapped, self._dataset) if m is not None)

    def _mapped(self, element: object) -> object:
        mapped = self._map_func(element)
        self.num_skipped += mapped is None
        return mapped


class _MapNumberedDataset(_MapIterableDataset):
    """:class:`MapDataset` of an iterable data set whose samples have positions; see ``TarDataset.turns``."""

    numbers_samples = True
    _dataset: Any
    _element_seed: tuple[int, ...] | None = None

    def numbered(self) -> Iterator[tuple[int, Any]]:
        """Yield the position in the stream of this rank and the mapped element of each sample."""
        for turn in self._dataset.turns():
            with reading(turn.whole, self._element_seed):
                tried = itertools.islice(turn.elements, MapDataset.max_attempts)
                element = next((m for m in map(self._mapped, tried) if m is not None), None)
            if element is None:
                raise RuntimeError(_rejects_all(turn.whole, MapDataset.max_attempts))
            yield turn.position, element

    def __iter__(self) -> Iterator[Any]:
        return (element for _, element in self.numbered())

    @property
    def seed(self) -> int:
        """The seed of the order."""
        return int(self._dataset.seed)

    def start_at(
        self, position: int, waiting: Sequence[int] = (), seed: tuple[int, ...] | None = None
    ) -> None:
        """Set where iterations begin; see :meth:`ToIterableDataset.start_at`."""
        self._dataset.start_at(position, waiting)
        self._element_seed = seed


def _rejects_all(first: int, attempts: int) -> str:
    return (
        f"the mapper returned None for {attempts} elements in a row, starting at index {first}: "
        "it rejects the whole data set. Call it on one record by hand to see why."
    )


# ------------------------------------------------------------------ sampled stream
class ToIterableDataset(data.IterableDataset):
    """Iterate over a map-style data set in the order of a sampler.

    Args:
        dataset: with ``__getitem__``.
        sampler: yields the indices, the same in each worker.
        shard_sampler: split the indices over the workers of the loader; false if the sampler does so itself.
        shard_chunk_size: consecutive indices that a worker takes at a time. If this is the batch size, batches do not
            depend on the number of workers.
    """

    numbers_samples = True

    def __init__(
        self, dataset: Indexed, sampler: Sampler, shard_sampler: bool = True, shard_chunk_size: int = 1
    ) -> None:
        if isinstance(dataset, data.IterableDataset):
            raise BadType(f"dataset is iterable already ({type(dataset).__name__}) and takes no sampler")
        if not isinstance(sampler, Sampler):
            raise BadType(f"sampler must be a torch.utils.data.Sampler, got {type(sampler).__name__}")
        self.dataset = dataset
        self.sampler = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size
        self.start_at(0)

    def start_at(
        self, position: int, waiting: Sequence[int] = (), seed: tuple[int, ...] | None = None
    ) -> None:
        """Set where iterations begin.

        Args:
            position: in the sampler's stream.
            waiting: earlier positions to read as well.
            seed: see :func:`loading.stream.reading`.
        """
        self._first, self._waiting, self._seed = position, frozenset(waiting), seed
        self._rank, self._world = comm.get_rank(), comm.get_world_size()

    def numbered(self) -> Iterator[tuple[int, Any]]:
        """Yield each element with its position in the sampler's stream."""
        todo = ((p, i) for p, i in enumerate(self.sampler) if p >= self._first or p in self._waiting)
        for position, index in worker_share(todo, self.shard_chunk_size) if self.shard_sampler else todo:
            with reading(position * self._world + self._rank, self._seed):
                element = self.dataset[index]
            yield position, element

    def __iter__(self) -> Iterator[Any]:
        return (element for _, element in self.numbered())

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


class AspectRatioGroupedDataset(data.IterableDataset):
    """Group images into batches of either portrait or landscape images, which need little padding.

    Each group keeps its order and yields a batch as soon as it is full.

    Args:
        dataset: iterable of dicts with ``width`` and ``height``, or with an ``image`` of shape ``[..., height, width]``.
        batch_size: images per batch.
    """

    def __init__(self, dataset: Iterable[Any], batch_size: int) -> None:
        if batch_size < 1:
            raise BadValue(f"batch_size must be at least 1, got {batch_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self._buckets: tuple[list[Any], list[Any]] = ([], [])

    def waiting(self) -> list[Any]:
        """Return the elements that are not in a batch yet."""
        return [element for bucket in self._buckets for element in bucket]

    def _is_upright(self, element: Any) -> bool:
        if "width" in element and "height" in element:
            return bool(element["width"] <= element["height"])
        if "image" in element:
            height, width = element["image"].shape[-2:]
            return bool(width <= height)
        raise BadKey(
            f"grouping by aspect ratio needs width and height, or image, of each element; the mapper returned {sorted(element)}. "
            "Add them there, or set DATALOADER.ASPECT_RATIO_GROUPING False"
        )

    def __iter__(self) -> Iterator[list[Any]]:
        self._buckets = ([], [])
        for element in self.dataset:
            bucket = self._buckets[self._is_upright(element)]
            bucket.append(element)
            if len(bucket) == self.batch_size:
                batch = bucket[:]
                bucket.clear()
                yield batch
