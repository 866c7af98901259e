"""Detection of losses that are not finite and of running out of memory."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from detectron2.utils import comm
from detectron2.utils.memory import is_out_of_memory, release_memory

from .incident import Step, describe_batch, diagnose, first_bad, save_incident

__all__ = ["DivergenceError", "LossDict", "Part", "StepGuard"]

logger = logging.getLogger(__name__)

LossDict = Mapping[str, torch.Tensor]
Part = tuple[Any, float]
"""A batch and its weight in the loss of the step."""

# Largest number of unchecked steps on an accelerator before the host waits for the oldest.
_MAX_OPEN = 4


@dataclass
class _Open:
    """A step whose losses are being copied to the host."""

    step: Step
    batch: object
    names: list[str]
    values: torch.Tensor
    arrived: torch.cuda.Event | None
    rng: torch.Tensor | None


class DivergenceError(FloatingPointError):
    """A step with a loss that is not finite; the message describes all that is known about it."""


class StepGuard:
    """Checks the losses of each step and explains what went wrong.

    On the CPU the check is immediate, and a bad batch never changes the weights. On accelerators the losses are copied
    without waiting and checked a few steps later, so the check costs no synchronisation. With ``max_skips`` > 0 each
    step waits, because it must be skipped before its gradients are computed.

    Args:
        output_dir: folder where bad batches are saved for ``detectron2 replay``; None saves none.
        max_skips: number of steps with a loss that is not finite to skip before training stops.
        retry_in_parts: after running out of memory, try the step again image by image (only with one process).

    Attributes:
        skipped: number of steps skipped so far.
    """

    def __init__(
        self, output_dir: str | None = None, max_skips: int = 0, retry_in_parts: bool = False
    ) -> None:
        self.output_dir = output_dir
        self.max_skips = max_skips
        self.retry_in_parts = retry_in_parts
        self.skipped = 0
        self._step: Step
        self._most_open = _MAX_OPEN
        self._open: deque[_Open] = deque()
        self._rng: torch.Tensor | None = None

    def begin(self, step: Step, most_open: int = 0) -> None:
        """Start to guard a step.

        Args:
            step: description of the step for error reports.
            most_open: number of steps whose losses are read together on accelerators without events.
        """
        self._step = step
        self._most_open = max(_MAX_OPEN, most_open)

    def attempt(
        self, parts: Sequence[Part], work: Callable[[Sequence[Part]], LossDict | None]
    ) -> LossDict | None:
        """Run a step; after running out of memory, run it again image by image if that is allowed.

        Args:
            parts: batches of the step.
            work: computes the gradients of parts.

        Returns:
            The result of ``work``.

        Raises:
            torch.OutOfMemoryError: if memory runs out and the step cannot be retried; the text lists the images.
        """
        try:
            return work(parts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            message = str(error)
        # Outside the handler, where the traceback would keep the tensors of the failed attempt alive.
        return work(self._image_by_image(parts, message))

    def forward(self, batch: object, losses_of: Callable[[object], LossDict]) -> LossDict | None:
        """Compute the losses of a batch and check them before they are used.

        Args:
            batch: input of the model.
            losses_of: computes the losses.

        Returns:
            The losses; None if the step must be skipped.

        Raises:
            DivergenceError: if a loss is not finite and no further step may be skipped.
        """
        self._rng = torch.get_rng_state()
        try:
            losses = losses_of(batch)
        except FloatingPointError as error:  # the model itself found numbers that are not finite
            self._skip_refused(batch, error)
            return None
        return losses if self._accepts(batch, losses) else None

    def finish(self) -> None:
        """Check the losses that are not checked yet; called at the end of training and before checkpoints.

        Raises:
            DivergenceError: if a loss is not finite.
        """
        waiting = [step for step in self._open if step.arrived is None]
        if waiting:  # in one copy
            found = torch.cat([step.values for step in waiting]).cpu()
            for step, values in zip(waiting, found.split([len(step.names) for step in waiting])):
                step.values = values
        while self._open:
            self._settle(self._open.popleft())

    # -- losses -------------------------------------------------------------------------------

    def _accepts(self, batch: object, losses: LossDict) -> bool:
        """Return whether to continue the step; False skips it."""
        if not losses:
            return True
        names = list(losses)
        values = torch.stack([losses[name].detach().float().reshape(()) for name in names])
        if values.device.type != "cpu" and self.max_skips == 0:
            self._check_later(batch, names, values)
            return True
        bad = not bool(torch.isfinite(values.sum()))
        report = ""
        if bad:
            report = self._report(self._step, batch, dict(zip(names, values.tolist())))
        if self.max_skips and comm.get_world_size() > 1:
            # Either all processes skip the step or none does, because their collectives must match.
            anywhere = torch.tensor(float(bad), device=values.device)
            dist.all_reduce(anywhere, op=dist.ReduceOp.MAX)
            if bool(anywhere) and not bad:
                bad, report = True, "another process has a loss that is not finite"
        if bad:
            self._count_skip(report)
        return not bad

    def _count_skip(self, report: str) -> None:
        if self.skipped >= self.max_skips:
            raise DivergenceError(report)
        self.skipped += 1
        logger.error(
            "Iteration %d is skipped (%d of at most %d): %s",
            self._step.iteration,
            self.skipped,
            self.max_skips,
            report,
        )

    def _skip_refused(self, batch: object, error: FloatingPointError) -> None:
        """Skip a step whose model raised ``error``, or raise a report about it."""
        alone = comm.get_world_size() == 1
        if alone and self.skipped < self.max_skips:
            self._count_skip(f"{error}\n{describe_batch(batch)}")
            return
        if not alone and self.max_skips:
            logger.error("One process alone cannot skip a step in which the model itself raises an error.")
        raise DivergenceError(f"{error}\n{self._report(self._step, batch, {})}") from error

    def _check_later(self, batch: object, names: list[str], values: torch.Tensor) -> None:
        arrived = None
        if values.device.type == "cuda":
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            values, arrived = host, torch.cuda.Event()
            arrived.record()
        self._open.append(_Open(self._step, batch, names, values, arrived, self._rng))
        if arrived is None:  # other accelerators: read the values of several steps together
            if len(self._open) >= self._most_open:
                self.finish()
            return
        while self._open and (len(self._open) > _MAX_OPEN or _is_here(self._open[0])):
            self._settle(self._open.popleft())

    def _settle(self, step: _Open) -> None:
        if step.arrived is not None:
            step.arrived.synchronize()
        values = dict(zip(step.names, step.values.tolist()))
        if first_bad(values) is not None:
            self._open.clear()
            self._rng = step.rng
            raise DivergenceError(self._report(step.step, step.batch, values))

    def _report(self, step: Step, batch: object, values: dict[str, float]) -> str:
        report = diagnose(step, batch, values)
        if self.output_dir is not None:
            name = f"iteration_{step.iteration:07d}_rank{comm.get_rank()}.pth"
            path = os.path.join(self.output_dir, "bad_batches", name)
            save_incident(path, step.model, batch, step.iteration, values, self._rng)
            report += f"\nThe batch is saved for `detectron2 replay`: {path}"
        return report

    # -- memory -------------------------------------------------------------------------------

    def _image_by_image(self, parts: Sequence[Part], message: str) -> list[Part]:
        """Clear gradients and memory, and return each image of a step as a batch."""
        images = "\n".join(describe_batch(batch) for batch, _ in parts)
        advice = (
            f"Memory ran out in iteration {self._step.iteration}:\n{images}\nPossible remedies: a smaller "
            "INPUT.MAX_SIZE_TRAIN or MIN_SIZE_TRAIN; a smaller SOLVER.IMS_PER_BATCH with a larger "
            "SOLVER.ACCUMULATE_STEPS; SOLVER.AMP.ENABLED True; SOLVER.ACTIVATION_CHECKPOINT; removing images with "
            "hundreds of instances."
        )
        lists = [batch for batch, _ in parts if isinstance(batch, (list, tuple))]
        can_split = len(lists) == len(parts) and max(map(len, lists)) > 1
        if not (self.retry_in_parts and can_split and comm.get_world_size() == 1):
            raise torch.OutOfMemoryError(f"{advice}\nThe allocator said: {message}")
        logger.warning("%s\nTrying again image by image.", advice)
        self._step.optimizer.zero_grad()
        release_memory()
        return [([image], share / len(batch)) for batch, share in parts for image in batch]


def _is_here(step: _Open) -> bool:
    """Return whether the losses of a step have arrived, without waiting for them."""
    return step.arrived is None or step.arrived.query()
