"""What a checkpoint needs, besides weights and optimizer, to go on exactly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from detectron2.utils import comm
from detectron2.utils.env import rng_state, set_rng_state

from ..train_loop import HookBase

__all__ = ["ResumeState", "collect_states"]

logger = logging.getLogger("detectron2.engine.hooks")


class ResumeState(HookBase):
    """Keeps the random generators and the position in the data of every process in the checkpoints.

    The main process writes checkpoints, so it collects the states of the others first: register
    this hook on all processes and before `PeriodicCheckpointer`, with the same period.

    The data position comes from `data_loader.state_dict()`, which the loaders of
    `build_detection_train_loader` have: they seed each image's augmentation by its position in the
    stream, so the position is all that resuming needs. For other loaders it is left out, and the
    resumed training starts a fresh pass over the data.

    Args:
        period: iterations between two checkpoints; 0 for the final one only.
    """

    def __init__(self, period: int) -> None:
        self._period = period
        self._collected: tuple[int, list[dict[str, Any]]] | None = None
        self._to_restore: dict[str, Any] | None = None

    def _loader(self) -> Any:
        loop = getattr(self.trainer, "_trainer", self.trainer)
        return getattr(loop, "data_loader", None)

    def _own(self) -> dict[str, Any]:
        """State of this process."""
        own: dict[str, Any] = {"rng": rng_state()}
        position = getattr(self._loader(), "state_dict", None)
        if callable(position):
            own["data"] = position()
        return own

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if comm.get_world_size() > 1 and (
            done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0)
        ):
            self.collect()

    def collect(self) -> None:
        """Brings the states of all processes to the main one, for a checkpoint of this iteration; all must call it."""
        self._collected = (self.trainer.last_iter, comm.gather(self._own()))

    def before_train(self) -> None:
        if self._to_restore is None:
            return
        own, self._to_restore = self._to_restore, None
        loop = getattr(self.trainer, "_trainer", self.trainer)
        if "data" in own:
            self._loader().load_state_dict(own["data"])
        # Starting the loader draws from the generators; in the first run that lay before the checkpoint.
        if hasattr(loop, "_prime_data_loader"):
            loop._prime_data_loader()
        set_rng_state(own["rng"])

    def state_dict(self) -> dict[str, Any]:
        """States of all processes where they are known for this iteration, else of this one."""
        if self._collected is not None and self._collected[0] == self.trainer.last_iter:
            return {"processes": self._collected[1]}
        return {"processes": [self._own()]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Keeps the state until the training starts."""
        processes = state_dict["processes"]
        rank = comm.get_rank()
        if len(processes) == comm.get_world_size():
            self._to_restore = processes[rank]
            return
        logger.warning(
            "The checkpoint holds the states of %d processes, now there are %d: images follow where it left off, "
            "but random draws differ from those of an unbroken run.",
            len(processes),
            comm.get_world_size(),
        )
        # Equal generators in all processes would draw the same numbers; theirs stay freshly seeded.
        if "data" in processes[0] and hasattr(self._loader(), "load_state_dict"):
            self._loader().load_state_dict(processes[0]["data"])


def collect_states(trainer: Any) -> None:
    """Lets a trainer's `ResumeState`, if it has one, collect for a checkpoint outside its period."""
    for hook in getattr(trainer, "_hooks", []):
        if isinstance(hook, ResumeState) and comm.get_world_size() > 1:
            hook.collect()
