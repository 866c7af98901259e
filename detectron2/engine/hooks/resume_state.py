"""Random states and data positions, which a checkpoint needs to continue training exactly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from detectron2.utils import comm
from detectron2.utils.env import rng_state, set_rng_state

from ..train_loop import SimpleTrainer, TrainerBase
from .periodic import PeriodicHook

__all__ = ["ResumeState", "collect_states"]

logger = logging.getLogger("detectron2.engine.hooks")


class ResumeState(PeriodicHook):
    """Saves the random states and data positions of all processes in checkpoints.

    The main process, which writes checkpoints, first collects the states of the others: register this hook on all
    processes and before ``PeriodicCheckpointer``, with the same period.

    The data position comes from ``data_loader.state_dict()`` of the loaders of ``build_detection_train_loader``. They
    seed the augmentation of each image by its position in the stream, so the position suffices for resuming. With
    other loaders, the resumed run starts a new pass over the data.

    Args:
        period: iterations between two checkpoints; 0 = only the final one.
    """

    last_run = "after_step"

    def __init__(self, period: int) -> None:
        super().__init__(period)
        self._collected: tuple[int, list[dict[str, Any]]] | None = None
        self._to_restore: dict[str, Any] | None = None

    def _loader(self) -> Any:
        return getattr(self.trainer.loop, "data_loader", None)

    def _own(self) -> dict[str, Any]:
        """Return the state of this process."""
        own: dict[str, Any] = {"rng": rng_state()}
        position = getattr(self._loader(), "state_dict", None)
        if callable(position):
            own["data"] = position()
        return own

    def run(self) -> None:
        if comm.get_world_size() > 1:
            self.collect()

    def collect(self) -> None:
        """Send the states of all processes to the main one, for a checkpoint of this iteration; all must call it."""
        self._collected = (self.trainer.last_iter, comm.gather(self._own()))

    def before_train(self) -> None:
        if self._to_restore is None:
            return
        own, self._to_restore = self._to_restore, None
        if "data" in own:
            self._loader().load_state_dict(own["data"])
        loop = self.trainer.loop
        # Starting the loader draws random numbers, which happened before the checkpoint in the first run.
        if isinstance(loop, SimpleTrainer):
            loop._prime_data_loader()
        set_rng_state(own["rng"])

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all processes if they were collected in this iteration, else that of this process."""
        if self._collected is not None and self._collected[0] == self.trainer.last_iter:
            return {"processes": self._collected[1]}
        return {"processes": [self._own()]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Keep the state until training starts."""
        processes = state_dict["processes"]
        rank = comm.get_rank()
        if len(processes) == comm.get_world_size():
            self._to_restore = processes[rank]
            return
        logger.warning(
            "The checkpoint holds the states of %d processes, but there are %d now: the data continues where it "
            "stopped, but random numbers differ from those of an uninterrupted run.",
            len(processes),
            comm.get_world_size(),
        )
        # The random states stay freshly seeded: with equal ones, all processes would draw the same numbers.
        if "data" in processes[0] and hasattr(self._loader(), "load_state_dict"):
            self._loader().load_state_dict(processes[0]["data"])


def collect_states(trainer: TrainerBase) -> None:
    """Let the ``ResumeState`` hooks of a trainer collect states, for a checkpoint outside their period."""
    for hook in trainer._hooks:
        if isinstance(hook, ResumeState) and comm.get_world_size() > 1:
            hook.collect()
