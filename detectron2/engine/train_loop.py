"""The training loop and its hooks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from detectron2.utils import comm
from detectron2.utils.errors import BadValue
from detectron2.utils.events import get_event_storage
from detectron2.utils.reexports import passed_on, publish

from .safety.guard import LossDict, Part, StepGuard
from .safety.incident import Step
from .trainer import metrics as _metrics
from .trainer.base import HookBase, StopTraining, TrainerBase
from .trainer.precision import Precision

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "StopTraining", "TrainerBase"]

__getattr__ = passed_on(__name__)

publish(__name__, HookBase, StopTraining, TrainerBase)


class SimpleTrainer(TrainerBase):
    """Trains one model, which returns losses, with one optimizer on one stream of batches.

    Each iteration takes a batch, computes ``model(batch)`` (a dict of losses, or one loss), and takes an optimizer
    step on their sum. Learning rate, logging, checkpoints and evaluation are hooks.

    Options that the constructor does not take are attributes:

    * ``accumulate_steps``: number of batches per optimizer step, which minimises their mean loss. One iteration is still
      one optimizer step, so schedules need no change;
    * ``guard``: handles losses that are not finite, and running out of memory;
    * ``precision``: dtype and loss scaling;
    * ``metric_window``: number of iterations whose losses several processes average in one collective. The storage
      receives all of them, a little later.

    Args:
        model: the model; it is set to training mode.
        data_loader: iterable of batches, endless or at least as long as training.
        optimizer: the optimizer.
        gather_metric_period: number of iterations between logged losses, averaged over all processes; 0 logs those of
            this process in each iteration, without communication.
        zero_grad_before_forward: clear gradients before rather than after the forward pass.
        async_write_metrics: accepted for compatibility. Losses on an accelerator are always stored without waiting
            for them.
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
        self.batch: object = None  # the first batch of the latest step, for hooks
        self.__iterator: Iterator[Any] | None = None

    # -- data ---------------------------------------------------------------------------------

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        # Created on first use, so that workers start with training, not with the trainer.
        if self.__iterator is None:
            self.__iterator = iter(self.data_loader)
        return self.__iterator

    def _prime_data_loader(self) -> None:
        """Start the data loader now, and keep the first batch for the first step.

        Starting workers draws random numbers, so call this before restoring random states.
        """
        stream = iter(self.data_loader)
        self.__iterator = itertools.chain([next(stream)], stream)

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Replace the data loader by ``data_loader_builder()``, which is called after the old loader is released."""
        self.__iterator = None
        del self.data_loader
        self.data_loader = data_loader_builder()

    # -- a step -------------------------------------------------------------------------------

    def run_step(self) -> None:
        """Take one optimizer step."""
        if not self.model.training:
            raise AssertionError(
                f"[{type(self).__name__}] the model is in evaluation mode; something called model.eval() "
                "and did not call model.train() afterwards"
            )
        self.guard.begin(
            Step(self.iter, self.model, self.optimizer, self.precision.dtype), self.metric_window
        )
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()

        start = time.perf_counter()
        batches = [next(self._data_loader_iter) for _ in range(self.accumulate_steps)]
        data_time = time.perf_counter() - start
        self.batch = batches[0]

        parts = [(batch, 1.0 / len(batches)) for batch in batches]
        losses = self.guard.attempt(parts, self._forward_backward)
        if losses is None:  # the guard skips this step
            self.optimizer.zero_grad()
            self._flush_window(self.iter)
            return

        self.after_backward()
        self._write_metrics(losses, data_time)
        self.precision.step(self.optimizer)

    def _forward_backward(self, parts: Sequence[Part]) -> LossDict | None:
        """Compute the gradients of the weighted losses of some batches; None if the guard skips the step."""
        done: list[Part] = []
        for batch, share in parts:
            with self._gradient_sync(last=len(done) + 1 == len(parts)):
                losses = self.guard.forward(batch, self._losses)
                if losses is None:
                    return None
                if not done and not self.zero_grad_before_forward:
                    # Between the passes, so that old gradients do not add to the memory peak of the backward pass,
                    # and clearing them overlaps with the forward pass on the device.
                    self.optimizer.zero_grad()
                total = torch.as_tensor(sum(losses.values()))
                self.precision.backward(total if share == 1.0 else total * share)
            done.append(({name: value.detach() for name, value in losses.items()}, share))
        return _metrics.weighted_sum(done)

    def _losses(self, batch: object) -> LossDict:
        """Compute the losses of a batch."""
        with self.precision.autocast():
            output = self.model(batch)
        return {"total_loss": output} if isinstance(output, torch.Tensor) else dict(output)

    def _gradient_sync(self, last: bool) -> AbstractContextManager[Any]:
        """Keep DDP and FSDP from reducing gradients before the last batch of a step."""
        if last:
            return nullcontext()
        if hasattr(self.model, "set_requires_gradient_sync"):
            return _without_fsdp_sync(self.model)
        no_sync = getattr(self.model, "no_sync", None)
        return no_sync() if callable(no_sync) else nullcontext()

    def finish_checks(self) -> None:
        """Finish pending checks of losses, which raise an error if a loss is not finite."""
        self.guard.finish()

    # -- figures ------------------------------------------------------------------------------

    def _write_metrics(
        self,
        loss_dict: Mapping[str, torch.Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        """Store the losses every ``gather_metric_period`` iterations."""
        now = self.iter if iter is None else iter
        if self.gather_metric_period <= 0:
            _metrics.write(get_event_storage(), loss_dict, data_time, now, prefix, gather=False)
            return
        due = (now + 1) % self.gather_metric_period == 0
        if self.metric_window > 1 and comm.get_world_size() > 1:
            if due:
                self._window.add(now, loss_dict, data_time, prefix)
            self._flush_window(now)
        elif due:
            self.write_metrics(loss_dict, data_time, now, prefix)

    def _flush_window(self, now: int) -> None:
        """Store the losses of a window if it ends with this iteration; the first window has only one iteration."""
        last = now + 1 == getattr(self, "max_iter", None)
        if (now + 1) % self.metric_window == 0 or last or not self._window.used:
            self._window.flush(get_event_storage())

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str = ""
    ) -> None:
        """Store losses, their sum and the data time, averaged over all processes.

        Every process must call it. ``data_time`` is the longest one, for which all processes wait; each process stores
        its own as ``rank_data_time``.

        Args:
            loss_dict: scalar losses.
            data_time: seconds that this process waited for its batch.
            cur_iter: the iteration.
            prefix: prefix of the names of losses.

        Raises:
            FloatingPointError: if the sum is on the CPU and not finite. On accelerators the guard checks losses, without
                waiting.
        """
        _metrics.write(get_event_storage(), loss_dict, data_time, cur_iter, prefix)

    # -- checkpoints --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base class and of the optimizer."""
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state of the base class and of the optimizer."""
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


class AMPTrainer(SimpleTrainer):
    """``SimpleTrainer`` in mixed precision: the same loop with another ``precision``.

    Args:
        model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics: see
            ``SimpleTrainer``.
        grad_scaler: loss scaler; None creates one for float16, and none for bfloat16.
        precision: dtype of autocast.
        log_grad_scaler: whether to store the scale as ``grad_scaler``.

    Raises:
        ValueError: if the model is spread over several devices.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        spread = isinstance(model, DataParallel) or (
            isinstance(model, DistributedDataParallel) and len(model.device_ids or ()) > 1
        )
        if spread:
            raise BadValue("AMPTrainer needs a model on one device; start one process per device")
        super().__init__(
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics
        )
        device = next((p.device.type for p in model.parameters()), "cpu")
        self.precision = Precision(precision, device, grad_scaler)
        self.log_grad_scaler = log_grad_scaler

    @property
    def grad_scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler, or None."""
        return self.precision.scaler

    def run_step(self) -> None:
        """Take one optimizer step in mixed precision."""
        super().run_step()
        if self.log_grad_scaler and self.grad_scaler is not None:
            get_event_storage().put_scalar("grad_scaler", self.grad_scaler.get_scale(), smoothing_hint=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base class and of the scaler."""
        state = super().state_dict()
        if self.grad_scaler is not None:
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state of the base class and of the scaler."""
        super().load_state_dict(state_dict)
        if self.grad_scaler is not None and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


@contextmanager
def _without_fsdp_sync(model: Any) -> Iterator[None]:
    """Disable gradient synchronisation of FSDP, as ``no_sync`` does for DDP."""
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)
