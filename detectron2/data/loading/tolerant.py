"""Skip unreadable images, and stop the run if there are too many."""

import logging
from collections.abc import Callable
from typing import Any

from detectron2.utils.image_io import READ_ERRORS

from ..detection_utils import SizeMismatchError

__all__ = ["BrokenCount", "TolerantMapper"]

logger = logging.getLogger(__name__)

GRACE = 5  # failures tolerated before their share is checked


class BrokenCount:
    """Counts and logs what one process could not read, and stops the run if it is too much.

    A failure is logged with file and cause whenever the number of failures has doubled.

    Args:
        max_share: share of the elements, 0 to 1, that may fail; 0 stops the run at the first failure.

    Attributes:
        read: elements tried, including the broken ones.
        broken: elements that failed.
        causes: name of each broken element -> cause.
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
            name: file that could not be read.
            cause: of the failure.
            number: elements lost, if the file had several.
            error: exception to chain.

        Raises:
            RuntimeError: more than ``max_share`` was lost.
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


class TolerantMapper:
    """Returns None for a record whose file cannot be read, and counts it.

    ``MapDataset`` then takes another element, or leaves this one out if the data set is iterable. Each process (rank
    and worker) counts separately.

    Args:
        mapper: reads the files of a record; may return None for records that cannot be used.
        max_share: share of the elements, 0 to 1, that may fail; 0 stops the run at the first failure.

    Attributes:
        count: what failed in this process.
    """

    def __init__(self, mapper: Callable[[Any], Any], max_share: float = 0.01) -> None:
        self.mapper = mapper
        self.count = BrokenCount(max_share)

    def __call__(self, record: Any) -> Any:
        """Map one record.

        Raises:
            RuntimeError: too many files are broken.
            Exception: any other error of the mapper.
        """
        self.count.read += 1
        try:
            return self.mapper(record)
        except (*READ_ERRORS, SizeMismatchError) as error:
            if self.count.max_share == 0:
                raise
            named = isinstance(record, dict) and "file_name" in record
            name = str(record["file_name"]) if named else f"element {self.count.read}"
            self.count.add(name, f"{type(error).__name__}: {error}", error=error)
            return None
