"""A broken image in the middle of training costs that image, not the run."""

import logging
from collections.abc import Callable
from typing import Any

from PIL import Image, UnidentifiedImageError

from .common import MapDataset

__all__ = ["READ_ERRORS", "TolerantMapDataset"]

logger = logging.getLogger(__name__)

# What readers raise for files that are missing, cut off or not an image. Faults of the code (KeyError, TypeError…)
# are not among them: they would hit every image and must show.
READ_ERRORS = (OSError, EOFError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError)
GRACE = 5  # so many failures are let pass before their share means anything


class TolerantMapDataset(MapDataset):
    """:class:`MapDataset` that replaces an element whose file cannot be read by another one, and counts it.

    Each process (rank and worker) counts for itself. The first failures, and then each time their number has
    doubled, are logged with the file and the cause.

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
        if not 0.0 <= max_share <= 1.0:
            raise ValueError(f"max_share of broken images must lie between 0 and 1, got {max_share}")
        self.max_share = max_share
        self.num_read = 0
        self.broken: dict[str, str] = {}
        self.num_broken = 0

    def _map(self, index: int) -> Any:
        record = self._dataset[index]
        self.num_read += 1
        try:
            return self._map_func(record)
        except Exception as error:
            if self.max_share == 0 or not self._is_read_error(error):
                raise
            self._count(record, index, error)
            return None

    @staticmethod
    def _is_read_error(error: Exception) -> bool:
        return isinstance(error, READ_ERRORS) or type(error).__name__ == "SizeMismatchError"

    def _count(self, record: Any, index: int, error: Exception) -> None:
        name = record.get("file_name", f"element {index}") if isinstance(record, dict) else f"element {index}"
        self.num_broken += 1
        self.broken.setdefault(str(name), f"{type(error).__name__}: {error}")
        n = self.num_broken
        if n & (n - 1) == 0:
            logger.warning(
                "Left out an image that cannot be read (%d of %d so far in this process): %s: %s",
                n, self.num_read, name, self.broken[str(name)],
            )  # fmt: skip
        if n > GRACE and n > self.max_share * self.num_read:
            listed = "\n".join(f"  {file}: {cause}" for file, cause in list(self.broken.items())[:10])
            raise RuntimeError(
                f"{n} of {self.num_read} images could not be read, more than the share of {self.max_share:g} that "
                f"may be left out (DATALOADER.MAX_BROKEN_SHARE). Check them with `detectron2 data check`:\n{listed}"
            ) from error
