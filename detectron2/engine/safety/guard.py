"""Standing guard over training steps: losses that are not finite, and memory that runs out."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from detectron2.utils import comm
from detectron2.utils.memory import is_out_of_memory, release_memory

from .incident import describe_batch, diagnose, first_bad, save_incident

if TYPE_CHECKING:
    from ..train_loop import SimpleTrainer

__all__ = ["DivergenceError", "StepGuard"]

logger = logging.getLogger(__name__)

Losses = dict[str, torch.Tensor]
# Steps whose check may be open on an accelerator before the host waits for the oldest.
_MAX_OPEN = 4


@dataclass
class _Open:
    """A step whose losses are on their way to the host."""

    iteration: int
    batch: Any
    names: list[str]
    values: torch.Tensor
    arrived: Any
    rng: torch.Tensor


class DivergenceError(FloatingPointError):
    """A step whose numbers are not finite; the text says what is known about it."""


class _SkipStepError(Exception):
    """The batch at hand has no finite loss and is to be left out."""


class StepGuard:
    """Checks each step and says what went wrong in words that help.

    On the CPU the check is immediate and a bad batch never touches the weights. On accelerators
    the losses are copied without waiting and checked a few steps later, so the check costs no
    synchronisation; with `max_skips` above 0 each step waits, since skipping must come in time.

    Args:
        output_dir: where a bad batch is kept for `detectron2 replay`; None keeps none.
        max_skips: how many steps with a loss that is not finite may be left out before the
            training stops.
        retry_in_parts: after running out of memory, try the batch again image by image (in one
            process only).
    """

    def __init__(
        self, output_dir: str | None = None, max_skips: int = 0, retry_in_parts: bool = False
    ) -> None:
        self.output_dir = output_dir
        self.max_skips = max_skips
        self.retry_in_parts = retry_in_parts
        self.skipped = 0
        self._open: deque[_Open] = deque()
        self._rng: torch.Tensor | None = None

    # -- called by the trainer ----------------------------------------------------------------

    def run(
        self,
        trainer: SimpleTrainer,
        batch: Any,
        forward_backward: Callable[[Any, float, bool], Losses],
        first: bool,
    ) -> Losses | None:
        """Runs one batch; None means that its step is to be skipped.

        Args:
            trainer: whose step it is.
            batch: the batch.
            forward_backward: the work: batch, its weight, whether to clear gradients.
            first: whether this is the first batch of its step.
        """
        self._rng = torch.get_rng_state()
        try:
            return forward_backward(batch, 1.0, first)
        except _SkipStepError:
            return None
        except DivergenceError:
            raise
        except FloatingPointError as error:  # the model itself found numbers that are not finite
            self._after_model_refused(trainer, batch, error)
            return None
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            message = str(error)
        # Outside the handler, whose traceback keeps the failed attempt's tensors alive.
        return self._after_out_of_memory(trainer, batch, forward_backward, first, message)

    def check(self, trainer: SimpleTrainer, batch: Any, losses: Losses) -> None:
        """Looks at the losses of a batch before they are used.

        Raises:
            FloatingPointError: if one is not finite and may not be skipped.
        """
        if not losses:
            return
        names = list(losses)
        values = torch.stack([losses[name].detach().float().reshape(()) for name in names])
        if values.device.type != "cpu" and self.max_skips == 0:
            self._check_later(trainer, batch, names, values)
            return
        bad = not bool(torch.isfinite(values.sum()))
        if self.max_skips and comm.get_world_size() > 1:
            # All processes skip or none does: their collectives must stay in step.
            anywhere = torch.tensor(float(bad), device=values.device)
            dist.all_reduce(anywhere, op=dist.ReduceOp.MAX)
            if bool(anywhere) and not bad:
                self._count_skip(trainer.iter, "another process met a loss that is not finite")
        if bad:
            report = self._report(trainer, trainer.iter, batch, dict(zip(names, values.tolist())), losses)
            self._count_skip(trainer.iter, report)

    def finish(self, trainer: SimpleTrainer) -> None:
        """Checks what is still open, at the end of the training and before checkpoints."""
        waiting = [step for step in self._open if step.arrived is None]
        if waiting:  # in one copy
            found = torch.cat([step.values for step in waiting]).cpu()
            for step, values in zip(waiting, found.split([len(step.names) for step in waiting])):
                step.values = values
        while self._open:
            self._settle(trainer, self._open.popleft())

    # -- losses -------------------------------------------------------------------------------

    def _count_skip(self, iteration: int, report: str) -> None:
        if self.skipped >= self.max_skips:
            raise DivergenceError(report)
        self.skipped += 1
        logger.error(
            "Iteration %d is skipped (%d of at most %d): %s", iteration, self.skipped, self.max_skips, report
        )
        raise _SkipStepError

    def _after_model_refused(self, trainer: SimpleTrainer, batch: Any, error: FloatingPointError) -> None:
        if comm.get_world_size() > 1 and self.max_skips:
            logger.error("A step cannot be skipped on one process alone when the model itself raises.")
        elif self.skipped < self.max_skips:
            with suppress(_SkipStepError):
                self._count_skip(trainer.iter, f"{error}\n{describe_batch(batch)}")
            return
        raise DivergenceError(f"{error}\n{self._report(trainer, trainer.iter, batch, {}, None)}") from error

    def _check_later(
        self, trainer: SimpleTrainer, batch: Any, names: list[str], values: torch.Tensor
    ) -> None:
        if values.device.type == "cuda":
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        else:  # other accelerators: the values of several steps are read at once, as often as figures are
            host, arrived = values, None
        assert self._rng is not None
        self._open.append(_Open(trainer.iter, batch, names, host, arrived, self._rng))
        if arrived is None:
            if len(self._open) >= max(_MAX_OPEN, trainer.metric_window):
                self.finish(trainer)
            return
        while self._open and (len(self._open) > _MAX_OPEN or self._open[0].arrived.query()):
            self._settle(trainer, self._open.popleft())

    def _settle(self, trainer: SimpleTrainer, step: _Open) -> None:
        if step.arrived is not None:
            step.arrived.synchronize()
        values = dict(zip(step.names, step.values.tolist()))
        if first_bad(values) is not None:
            self._open.clear()
            self._rng = step.rng
            raise DivergenceError(self._report(trainer, step.iteration, step.batch, values, None))

    def _report(
        self,
        trainer: SimpleTrainer,
        iteration: int,
        batch: Any,
        values: dict[str, float],
        losses: Losses | None,
    ) -> str:
        report = diagnose(trainer, iteration, batch, values, losses)
        if self.output_dir is not None:
            name = f"iteration_{iteration:07d}_rank{comm.get_rank()}.pth"
            path = os.path.join(self.output_dir, "bad_batches", name)
            save_incident(path, trainer.model, batch, iteration, values, self._rng)
            report += f"\nThe batch is kept for `detectron2 replay`: {path}"
        return report

    # -- memory -------------------------------------------------------------------------------

    def _after_out_of_memory(
        self,
        trainer: SimpleTrainer,
        batch: Any,
        forward_backward: Callable[[Any, float, bool], Losses],
        first: bool,
        message: str,
    ) -> Losses:
        images = describe_batch(batch)
        advice = (
            "Memory ran out in iteration "
            f"{trainer.iter}:\n{images}\nWhat helps: a smaller INPUT.MAX_SIZE_TRAIN or MIN_SIZE_TRAIN; fewer images in "
            "SOLVER.IMS_PER_BATCH with SOLVER.ACCUMULATE_STEPS instead; SOLVER.AMP.ENABLED True; "
            "SOLVER.ACTIVATION_CHECKPOINT; leaving out images with hundreds of instances."
        )
        can_split = (
            self.retry_in_parts
            and isinstance(batch, (list, tuple))
            and len(batch) > 1
            and first
            and comm.get_world_size() == 1
        )
        if not can_split:
            raise torch.OutOfMemoryError(f"{advice}\nThe allocator said: {message}")
        logger.warning("%s\nTrying again image by image.", advice)
        trainer.optimizer.zero_grad()
        release_memory()
        parts: list[Losses] = []
        for image in batch:
            parts.append(forward_backward([image], 1.0 / len(batch), not parts))
        names = dict.fromkeys(name for part in parts for name in part)
        return {n: torch.stack([p[n] for p in parts if n in p]).sum() / len(parts) for n in names}
