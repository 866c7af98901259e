"""Losses on their way to the event storage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist

from detectron2.utils import comm
from detectron2.utils.events import EventStorage

__all__ = ["mean_of", "write"]


def mean_of(parts: Sequence[Mapping[str, torch.Tensor]]) -> Mapping[str, torch.Tensor]:
    """Mean of the losses of several batches; a loss that a batch lacks counts as 0 there."""
    if len(parts) == 1:
        return parts[0]
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: torch.stack([p[name] for p in parts if name in p]).sum() / len(parts) for name in names}


def write(
    storage: EventStorage, loss_dict: Mapping[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str
) -> None:
    """See `SimpleTrainer.write_metrics`."""
    losses = {name: value.detach().float() for name, value in loss_dict.items()}
    if comm.get_world_size() > 1:
        losses, data_time = _over_processes(losses, data_time)
        if not comm.is_main_process():
            return
    storage.put_scalar("data_time", data_time, cur_iter=cur_iter)
    total = sum(losses.values())
    if not isinstance(total, torch.Tensor):
        return
    if total.device.type == "cpu" and not math.isfinite(float(total)):
        values = {name: float(value) for name, value in losses.items()}
        raise FloatingPointError(f"the loss is not finite in iteration {cur_iter}: {values}")
    storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
    if len(losses) > 1 or "total_loss" not in losses:
        for name, value in losses.items():
            storage.put_scalar(prefix + name, value, cur_iter=cur_iter)


def _over_processes(
    losses: dict[str, torch.Tensor], data_time: float
) -> tuple[dict[str, torch.Tensor], float]:
    """Mean of each loss and greatest data time over all processes, in one collective on the device."""
    names = sorted(losses)
    device = losses[names[0]].device if names else torch.device("cpu")
    row = torch.stack([*(losses[n].reshape(()) for n in names), torch.tensor(data_time, device=device)])
    table = [torch.empty_like(row) for _ in range(comm.get_world_size())]
    # Gathered and then added in order of rank: a sum over a ring would depend on the backend's order.
    dist.all_gather(table, row)
    stacked = torch.stack(table)  # [ranks, losses + 1]
    means = stacked[:, :-1].mean(0)
    # Waiting times are only shown on the main process; elsewhere reading them would wait for the device.
    longest = float(stacked[:, -1].max()) if comm.is_main_process() and device.type == "cpu" else data_time
    return dict(zip(names, means)), longest
