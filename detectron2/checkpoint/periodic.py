"""Save checkpoints at regular intervals, and keep only the newest."""

import os
import re

from detectron2.utils.errors import BadValue

from .checkpointer import Checkpointer

__all__ = ["PeriodicCheckpointer"]


class PeriodicCheckpointer:
    """Saves ``{file_prefix}_{iteration:07d}`` every ``period`` iterations and ``{file_prefix}_final`` at the end.

    Args:
        checkpointer: usually a :class:`Checkpointer`.
        period: iterations between two checkpoints.
        max_iter: total number of iterations; None to write no final checkpoint.
        max_to_keep: number of periodic checkpoints to keep, not counting the final one; None keeps all. After resuming,
            earlier checkpoints of the same training count as well.
        file_prefix: prefix of the names.

    Raises:
        ValueError: if ``max_to_keep`` is not positive.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        period: int,
        max_iter: int | None = None,
        max_to_keep: int | None = None,
        file_prefix: str = "model",
    ) -> None:
        self.checkpointer = checkpointer
        self.period = int(period)
        self.max_iter = max_iter
        if max_to_keep is not None and max_to_keep <= 0:
            raise BadValue(f"max_to_keep must be positive or None, not {max_to_keep}")
        self.max_to_keep = max_to_keep
        self.recent_checkpoints: list[str] = []
        self.path_manager = checkpointer.path_manager
        self.file_prefix = file_prefix
        self._counted_earlier = False

    def step(self, iteration: int, **kwargs: object) -> None:
        """Save a checkpoint if this iteration completes a period or the training.

        Args:
            iteration: iteration that just ended, counted from 0; stored as ``"iteration"``.
            kwargs: additional data to store.
        """
        iteration = int(iteration)
        data = {"iteration": iteration, **kwargs}
        if self.period > 0 and (iteration + 1) % self.period == 0:
            self.checkpointer.save(f"{self.file_prefix}_{iteration:07d}", **data)
            if self.max_to_keep is not None:
                self._keep_newest(self.max_to_keep)
        if self.max_iter is not None and iteration >= self.max_iter - 1:
            self.checkpointer.save(f"{self.file_prefix}_final", **data)

    def save(self, name: str, **kwargs: object) -> None:
        """Save a checkpoint now under a given name; it is never removed."""
        self.checkpointer.save(name, **kwargs)

    def _keep_newest(self, count: int) -> None:
        if not self._counted_earlier:
            self._counted_earlier = True
            self.recent_checkpoints[:0] = self._earlier()
        newest = self.checkpointer.get_checkpoint_file()
        if newest in self.recent_checkpoints:
            self.recent_checkpoints.remove(newest)
        self.recent_checkpoints.append(newest)
        while len(self.recent_checkpoints) > count:
            self.checkpointer.remove_checkpoint(self.recent_checkpoints.pop(0))

    def _earlier(self) -> list[str]:
        """Return the periodic checkpoints up to the one that this run resumed from, oldest first."""
        resumed = getattr(self.checkpointer, "resumed_from", None)
        if not resumed:
            return []
        pattern = re.compile(re.escape(self.file_prefix) + r"_(\d{7,})\.(?:pth|shards)$")
        found = []
        start = pattern.fullmatch(os.path.basename(resumed))
        for path in self.checkpointer.get_all_checkpoint_files():
            match = pattern.fullmatch(os.path.basename(path))
            if match and (start is None or int(match[1]) <= int(start[1])):
                found.append((int(match[1]), path))
        return [path for _, path in sorted(found)]
