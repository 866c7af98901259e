"""A broken image in the middle of training costs that image, not the run."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data._utils.pin_memory import pin_memory

from ..common import MapDataset

__all__ = [
    "READ_ERRORS",
    "BrokenCount",
    "CountKeeper",
    "CountedCollate",
    "TolerantIterableDataset",
    "TolerantMapDataset",
    "is_read_error",
]

logger = logging.getLogger(__name__)

# What readers raise for files that are missing, cut off or not an image. Faults of the code (KeyError, TypeError…)
# are not among them: they would hit every image and must show.
READ_ERRORS = (OSError, EOFError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError)
GRACE = 5  # so many failures are let pass before their share means anything


def is_read_error(error: Exception) -> bool:
    """Whether an error says that a file is broken, and not that the code is wrong."""
    return isinstance(error, READ_ERRORS) or type(error).__name__ == "SizeMismatchError"


class BrokenCount:
    """Counts what one process could not read, reports it, and stops the run when it is too much.

    The first failures, and then each time their number has doubled, are logged with the file and the cause.

    Args:
        max_share: share of the elements, 0 to 1, that may fail; 0 lets the first failure stop the run.

    Attributes:
        read: elements tried, the broken ones among them.
        broken: elements that failed.
        causes: name of each broken element -> what went wrong.
    """

    def __init__(self, max_share: float) -> None:
        if not 0.0 <= max_share <= 1.0:
            raise ValueError(f"max_share of broken images must lie between 0 and 1, got {max_share}")
        self.max_share = max_share
        self.read = self.broken = 0
        self.causes: dict[str, str] = {}

    def add(self, name: str, cause: str, number: int = 1, error: Exception | None = None) -> None:
        """Count a failure.

        Args:
            name: of the file.
            cause: what went wrong.
            number: elements that were lost, if the file had several.
            error: that caused it.

        Raises:
            RuntimeError: more than the share was lost.
        """
        before, self.broken = self.broken, self.broken + number
        self.causes.setdefault(name, cause)
        if before.bit_length() != self.broken.bit_length():
            logger.warning(
                "Left out an image that cannot be read (%d of %d so far in this process): %s: %s",
                self.broken, self.read, name, self.causes[name],
            )  # fmt: skip
        few = len(self.causes) <= GRACE and self.broken <= GRACE
        if self.max_share == 0 or (not few and self.broken > self.max_share * self.read):
            listed = "\n".join(f"  {file}: {why}" for file, why in list(self.causes.items())[:10])
            raise RuntimeError(
                f"{self.broken} of {self.read} images could not be read, more than the share of {self.max_share:g} "
                "that may be left out (DATALOADER.MAX_BROKEN_SHARE). Check them with `detectron2 data check`:\n"
                f"{listed}"
            ) from error


class TolerantMapDataset(MapDataset):
    """:class:`MapDataset` that replaces an element whose file cannot be read by another one, and counts it.

    Each process (rank and worker) counts for itself; see :class:`BrokenCount`.

    Args:
        dataset: gives records.
        map_func: reads the files of a record.
        max_share: share of the elements, 0 to 1, that may fail; 0 lets the first failure stop the run.
    """

    def __new__(
        cls, dataset: Any, map_func: Callable[[Any], Any], max_share: float = 0.01
    ) -> "TolerantMapDataset":
        return object.__new__(cls)

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any], max_share: float = 0.01) -> None:
        super().__init__(dataset, map_func)
        self.count = BrokenCount(max_share)

    @property
    def num_broken(self) -> int:
        """Elements that failed in this process."""
        return self.count.broken

    @property
    def num_read(self) -> int:
        """Elements tried in this process."""
        return self.count.read

    @property
    def broken(self) -> dict[str, str]:
        """Name of each broken file of this process -> what went wrong."""
        return self.count.causes

    def _map(self, index: int) -> Any:
        return _map_or_count(self._map_func, self._dataset[index], self.count, f"element {index}")


class TolerantIterableDataset(IterableDataset):
    """Applies a function to each element of an iterable data set; leaves out and counts what cannot be read.

    Args:
        dataset: gives records, in an order of its own.
        map_func: reads the files of a record; None for elements that cannot be used.
        max_share: share of the elements, 0 to 1, that may fail; 0 lets the first failure stop the run.
    """

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any], max_share: float = 0.01) -> None:
        self._dataset, self._map_func = dataset, map_func
        self.count = BrokenCount(max_share)
        self._before: tuple[int, ...] = ()
        self._turn = 0

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator["Counted"]:
        info = get_worker_info()
        worker, readers = (0, 1) if info is None else (info.id, info.num_workers)
        reader = (worker + self._turn) % readers
        left_out = self._before[reader] if len(self._before) == readers else 0
        for position, record in enumerate(self._dataset):
            mapped = _map_or_count(self._map_func, record, self.count, f"element {position}")
            if mapped is None:
                left_out += 1
            else:
                yield Counted(mapped, reader, left_out)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind elements that were taken; see ``TarDataset.load_state_dict``."""
        if hasattr(self._dataset, "load_state_dict"):
            self._before = tuple(state.get("left_out", ()))
            # The first worker goes on with the part of the one whose turn it would have been.
            self._turn = int(state["position"]) // int(state.get("chunk", 1))
            self._dataset.load_state_dict(state)


@dataclass(frozen=True, slots=True)
class Counted:
    """An element of a stream, or a batch of them, on its way to the main process.

    Attributes:
        content: the element.
        reader: number of the part of the stream, dealt out to the workers, that it is of.
        left_out: how many elements of this part were left out by then, which an exact resume must know.
    """

    content: Any
    reader: int
    left_out: int

    def pin_memory(self, *args: Any) -> "Counted":
        """What torch's loader does with its batches, for the one in here."""
        return replace(self, content=pin_memory(self.content, *args))


class CountedCollate:
    """Lets a function that makes batches take counted elements.

    Args:
        collate_fn: takes a list of elements.
    """

    def __init__(self, collate_fn: Callable[[list[Any]], Any]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, batch: list[Any]) -> Any:
        """Make a batch; a counted one, if its elements are."""
        if not isinstance(batch[-1], Counted):
            return self.collate_fn(batch)
        last = batch[-1]
        return Counted(self.collate_fn([c.content for c in batch]), last.reader, last.left_out)


class CountKeeper:
    """Gives what a loader gives, and keeps the counts that came with it.

    Args:
        loader: torch's.

    Attributes:
        left_out: elements of each part that were left out, up to the element given last.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.left_out = [0] * max(1, loader.num_workers)

    def __iter__(self) -> Iterator[Any]:
        for given in self.loader:
            if isinstance(given, Counted):
                self.left_out[given.reader] = given.left_out
                given = given.content
            yield given


def _map_or_count(map_func: Callable[[Any], Any], record: Any, count: BrokenCount, otherwise: str) -> Any:
    count.read += 1
    try:
        return map_func(record)
    except Exception as error:
        if count.max_share == 0 or not is_read_error(error):
            raise
        name = record.get("file_name", otherwise) if isinstance(record, dict) else otherwise
        count.add(str(name), f"{type(error).__name__}: {error}", error=error)
        return None
