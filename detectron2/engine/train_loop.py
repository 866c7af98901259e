"""The training loop and its hooks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from .safety.guard import StepGuard
from .trainer import metrics as _metrics
from .trainer.base import HookBase, StopTraining, TrainerBase
from .trainer.precision import Precision

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "StopTraining", "TrainerBase"]


@contextmanager
def _without_fsdp_sync(model: Any) -> Iterator[None]:
    """What DDP calls `no_sync`."""
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


class SimpleTrainer(TrainerBase):
    """One optimizer, one data stream, one model that returns losses.

    Each iteration takes a batch, computes `model(batch)` (a dict of losses, or one loss), and takes
    an optimizer step on their sum. Learning rate, logging, checkpoints and evaluation are hooks.

    Options that the constructor does not take are attributes:

    * `accumulate_steps`: batches per optimizer step (their mean loss is minimised; one iteration is
      still one optimizer step, so schedules need no change);
    * `guard`: what to do about losses that are not finite and about memory running out;
    * `precision`: dtype and loss scaling;
    * `metric_window`: with several processes, average the losses of so many iterations over the processes
      at once instead of those of each iteration by themselves. The storage has all of them, somewhat later.

    Args:
        model: set to training mode.
        data_loader: iterable of batches, endless or at least as long as the training.
        optimizer: its step may clip gradients.
        gather_metric_period: average the logged losses over all processes each so many iterations;
            0 never communicates.
        zero_grad_before_forward: clear gradients before rather than after the forward pass.
        async_write_metrics: accepted for compatibility. Losses on an accelerator are always handed
            to the storage without waiting for them.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        super().__init__()
        # The caller may go on using the model; whether it trains must not depend on that.
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self.accumulate_steps = 1
        self.precision = Precision()
        self.guard = StepGuard()
        self.metric_window = 1
        self._window = _metrics.Window()
        self.__iterator: Iterator[Any] | None = None

    # -- data ---------------------------------------------------------------------------------

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        # Made late: workers start with the training, not with the trainer.
        if self.__iterator is None:
            self.__iterator = iter(self.data_loader)
        return self.__iterator

    def _prime_data_loader(self) -> None:
        """Starts the data now and keeps the first batch for the first step.

        Starting workers draws from the random generators; whoever restores those does this first.
        """
        stream = iter(self.data_loader)
        self.__iterator = itertools.chain([next(stream)], stream)

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Replaces the data.

        Args:
            data_loader_builder: makes the new loader; called after the old one has been let go.
        """
        self.__iterator = None
        del self.data_loader
        self.data_loader = data_loader_builder()

    # -- a step -------------------------------------------------------------------------------

    def run_step(self) -> None:
        """One optimizer step."""
        if not self.model.training:
            raise AssertionError(
                f"[{type(self).__name__}] the model is in evaluation mode; something called model.eval() "
                "and did not call model.train() afterwards"
            )
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        data_time = 0.0
        logged: list[dict[str, torch.Tensor]] = []
        for part in range(self.accumulate_steps):
            start = time.perf_counter()
            batch = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            last = part + 1 == self.accumulate_steps
            with nullcontext() if last else self._without_sync():
                losses = self.guard.run(self, batch, self._forward_backward, first=part == 0)
            if losses is None:  # a bad batch that the guard skips, with the whole step
                self.optimizer.zero_grad()
                self._flush_window(self.iter)
                return
            logged.append(losses)
        self.after_backward()
        self._write_metrics(_metrics.mean_of(logged), data_time)
        self.precision.step(self.optimizer)

    def _forward_backward(self, batch: Any, share: float, clear: bool) -> dict[str, torch.Tensor]:
        """Adds the gradients of one batch; returns its losses.

        Args:
            batch: what the data loader gave.
            share: weight of this batch in the step.
            clear: whether gradients of the step before are still there.
        """
        with self.precision.autocast():
            output = self.model(batch)
        losses: dict[str, torch.Tensor] = (
            {"total_loss": output} if isinstance(output, torch.Tensor) else dict(output)
        )
        total = sum(losses.values())
        self.guard.check(self, batch, losses)
        if clear and not self.zero_grad_before_forward:
            # Between the passes, so that the old gradients do not add to the peak of the backward pass
            # and clearing them overlaps with the forward pass on the device.
            self.optimizer.zero_grad()
        weight = share / self.accumulate_steps
        self.precision.backward(total if weight == 1.0 else total * weight)  # type: ignore[arg-type]
        return {name: value.detach() for name, value in losses.items()}

    def _without_sync(self) -> AbstractContextManager[Any]:
        """Keeps DDP and FSDP from reducing gradients that are not complete yet."""
        if hasattr(self.model, "set_requires_gradient_sync"):
            return _without_fsdp_sync(self.model)
        no_sync = getattr(self.model, "no_sync", None)
        return no_sync() if callable(no_sync) else nullcontext()

    def after_backward(self) -> None:
        """Calls the hooks; gradients are scaled still when a loss scaler is in use."""
        super().after_backward()

    # -- figures ------------------------------------------------------------------------------

    def _write_metrics(
        self,
        loss_dict: Mapping[str, torch.Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        """Hands the losses to the storage on the iterations that are due."""
        now = self.iter if iter is None else iter
        if self.metric_window > 1 and comm.get_world_size() > 1:
            self._window.add(now, loss_dict, data_time, prefix)
            self._flush_window(now)
        elif self.gather_metric_period <= 0 or (now + 1) % self.gather_metric_period == 0:
            self.write_metrics(loss_dict, data_time, now, prefix)

    def _flush_window(self, now: int) -> None:
        """Hands over the losses of a window that ends with this iteration; the first has one only."""
        last = now + 1 == getattr(self, "max_iter", None)
        if (now + 1) % self.metric_window == 0 or last or not self._window.used:
            self._window.flush(get_event_storage())

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str = ""
    ) -> None:
        """Puts losses, their sum and the data time into the storage, averaged over all processes.

        Every process must call it. Of the data times the longest counts, since all wait for it.

        Args:
            loss_dict: scalar losses.
            data_time: seconds that this process waited for its batch.
            cur_iter: iteration that the figures belong to.
            prefix: put before the names of losses.

        Raises:
            FloatingPointError: if the sum is not finite and lies on the CPU (elsewhere the guard
                finds out without waiting).
        """
        _metrics.write(get_event_storage(), loss_dict, data_time, cur_iter, prefix)

    # -- checkpoints --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """As in the base, and the optimizer."""
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As in the base, and the optimizer."""
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])

    def after_train(self) -> None:
        """As in the base, after a last look at losses whose check was put off."""
        self.guard.finish(self)
        super().after_train()


class AMPTrainer(SimpleTrainer):
    """`SimpleTrainer` in mixed precision: the same loop with another `precision`.

    Args:
        model: as for `SimpleTrainer`.
        data_loader: as for `SimpleTrainer`.
        optimizer: as for `SimpleTrainer`.
        gather_metric_period: as for `SimpleTrainer`.
        zero_grad_before_forward: as for `SimpleTrainer`.
        grad_scaler: loss scaler; by default one is made for float16 and none for bfloat16.
        precision: dtype of autocast.
        log_grad_scaler: put the scale into the storage as `grad_scaler`.
        async_write_metrics: as for `SimpleTrainer`.

    Raises:
        ValueError: for a model on several devices.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: Any = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        spread = isinstance(model, DataParallel) or (
            isinstance(model, DistributedDataParallel) and len(model.device_ids or ()) > 1
        )
        if spread:
            raise ValueError("AMPTrainer takes a model on one device; start one process per device")
        super().__init__(
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics
        )
        device = next((p.device.type for p in model.parameters()), "cpu")
        self.precision = Precision(precision, device, grad_scaler)
        self.log_grad_scaler = log_grad_scaler

    @property
    def grad_scaler(self) -> Any:
        """The loss scaler; None where none is in use."""
        return self.precision.scaler

    def run_step(self) -> None:
        """One optimizer step in mixed precision."""
        super().run_step()
        if self.log_grad_scaler and self.grad_scaler is not None:
            get_event_storage().put_scalar("grad_scaler", self.grad_scaler.get_scale(), smoothing_hint=False)

    def state_dict(self) -> dict[str, Any]:
        """As in the base, and the scaler."""
        state = super().state_dict()
        if self.grad_scaler is not None:
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As in the base, and the scaler."""
        super().load_state_dict(state_dict)
        if self.grad_scaler is not None and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
