"""Stepping and logging the learning rate."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.solver.lr_scheduler import LRScheduler as TorchLRScheduler
from detectron2.solver.param_scheduler import ParamScheduler

from ..train_loop import HookBase

__all__ = ["LRScheduler"]


class LRScheduler(HookBase):
    """Advances a schedule after each iteration and stores the learning rate as ``lr``.

    Args:
        optimizer: None uses that of the trainer.
        scheduler: a PyTorch scheduler, or a ``ParamScheduler``, whose values multiply the initial rates of the
            optimizer; None uses ``trainer.scheduler``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: TorchLRScheduler | ParamScheduler | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._pending: Mapping[str, Any] | None = None

    def before_train(self) -> None:
        trainer: Any = self.trainer
        self._optimizer = self._optimizer or trainer.optimizer
        if isinstance(self.scheduler, ParamScheduler):
            self._scheduler = LRMultiplier(
                self._optimizer, self.scheduler, trainer.max_iter, last_iter=trainer.iter - 1
            )
            if self._pending is not None:
                self._restore(self._pending)
                self._pending = None
        self._best_param_group_id = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """Return the index of the parameter group whose rate is logged.

        This is the group with the most parameters or, if all groups have one parameter, a group with the most common
        rate.
        """
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in optimizer.param_groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        assert self._optimizer is not None
        rate = self._optimizer.param_groups[self._best_param_group_id]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    @property
    def scheduler(self) -> Any:
        """The schedule in use."""
        trainer: Any = self.trainer
        return self._scheduler if self._scheduler is not None else trainer.scheduler

    def state_dict(self) -> dict[str, Any]:
        """Return the state of a PyTorch scheduler; a ``ParamScheduler`` has none."""
        if isinstance(self.scheduler, TorchLRScheduler):
            return self.scheduler.state_dict()
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state; the curve itself comes from the config."""
        if isinstance(self.scheduler, TorchLRScheduler):
            self._restore(state_dict)
        else:
            # A ParamScheduler becomes a PyTorch scheduler only in before_train.
            self._pending = state_dict

    def _restore(self, state_dict: Mapping[str, Any]) -> None:
        logging.getLogger("detectron2.engine.hooks").info("Loading the state of the schedule.")
        self.scheduler.load_state_dict(state_dict)
