"""Averaging losses over processes and storing them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from detectron2.utils import comm
from detectron2.utils.events import EventStorage

__all__ = ["Window", "weighted_sum", "write"]


def weighted_sum(parts: Sequence[tuple[Mapping[str, torch.Tensor], float]]) -> Mapping[str, torch.Tensor]:
    """Return the weighted sum of the losses of several batches; a missing loss counts as 0."""
    if len(parts) == 1:
        return parts[0][0]
    names = dict.fromkeys(name for losses, _ in parts for name in losses)
    return {
        name: torch.stack([losses[name] * share for losses, share in parts if name in losses]).sum()
        for name in names
    }


def write(
    storage: EventStorage,
    loss_dict: Mapping[str, torch.Tensor],
    data_time: float,
    cur_iter: int,
    prefix: str,
    gather: bool = True,
) -> None:
    """Store the metrics of one step, averaged over all processes if ``gather`` is true."""
    window = Window()
    window.add(cur_iter, loss_dict, data_time, prefix)
    window.flush(storage, gather)


def _put(storage: EventStorage, step: _Step) -> None:
    """Store the metrics of one step."""
    storage.put_scalar("data_time", step.data_time, cur_iter=step.iteration)
    total = sum(step.losses.values())
    if not isinstance(total, torch.Tensor):
        return
    if total.device.type == "cpu" and not math.isfinite(float(total)):
        values = {name: float(value) for name, value in step.losses.items()}
        raise FloatingPointError(f"the loss is not finite in iteration {step.iteration}: {values}")
    storage.put_scalar(f"{step.prefix}total_loss", total, cur_iter=step.iteration)
    if len(step.losses) > 1 or "total_loss" not in step.losses:
        for name, value in step.losses.items():
            storage.put_scalar(step.prefix + name, value, cur_iter=step.iteration)


@dataclass
class _Step:
    """Metrics of one step."""

    iteration: int
    losses: dict[str, torch.Tensor]
    data_time: float
    prefix: str


class Window:
    """Losses of several steps, averaged over all processes in one collective.

    Every process adds the same losses in the same steps and flushes at the same time.
    """

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self.used = False

    def add(
        self, iteration: int, loss_dict: Mapping[str, torch.Tensor], data_time: float, prefix: str
    ) -> None:
        """Add the metrics of a step, without communication and without reading from the device."""
        losses = {name: value.detach().float() for name, value in loss_dict.items()}
        self._steps.append(_Step(iteration, losses, data_time, prefix))

    def flush(self, storage: EventStorage, gather: bool = True) -> None:
        """Store the metrics of all added steps.

        Args:
            storage: the storage of this process.
            gather: average over all processes and store on the main one only; otherwise each process stores its own
                metrics.

        Raises:
            FloatingPointError: if a sum of losses on the CPU is not finite.
        """
        steps, self._steps = self._steps, []
        self.used = self.used or bool(steps)
        for step in steps:
            storage.put_scalar("rank_data_time", step.data_time, cur_iter=step.iteration)
        if steps and gather and comm.get_world_size() > 1:
            steps = _over_processes(steps)
            if not comm.is_main_process():
                return
        for step in steps:
            _put(storage, step)


def _over_processes(steps: list[_Step]) -> list[_Step]:
    """Return the mean of each loss and the longest data time over all processes."""
    device = next((v.device for step in steps for v in step.losses.values()), torch.device("cpu"))
    values = [step.losses[name].reshape(()) for step in steps for name in sorted(step.losses)]
    times = torch.tensor([step.data_time for step in steps], dtype=torch.float32)
    row = torch.cat([torch.stack(values), times.to(device)]) if values else times
    table = [torch.empty_like(row) for _ in range(comm.get_world_size())]
    # Gather, then add in the order of ranks, because the order of a reduction depends on the backend.
    dist.all_gather(table, row)
    stacked = torch.stack(table)  # [ranks, losses of all steps + steps]
    means = iter(stacked[:, : len(values)].mean(0).unbind())
    longest = stacked[:, len(values) :].amax(0)
    # Other processes do not need them, and reading them would wait for the device.
    times_shown = longest.tolist() if comm.is_main_process() else times.tolist()
    return [
        _Step(step.iteration, {name: next(means) for name in sorted(step.losses)}, shown, step.prefix)
        for step, shown in zip(steps, times_shown)
    ]
