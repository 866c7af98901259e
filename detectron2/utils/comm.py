"""Communication between the processes of one training run.

Every function also works in a single process without ``torch.distributed``: the world size is 1, and collectives return
their input. The rank is the index of a process over all machines, the local rank its index on its machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from .errors import BadState, BadValue

__all__ = [
    "all_gather",
    "create_local_process_group",
    "gather",
    "get_local_process_group",
    "get_local_rank",
    "get_local_size",
    "get_rank",
    "get_world_size",
    "is_main_process",
    "leave",
    "reduce_dict",
    "shared_random_seed",
    "synchronize",
]

# Processes of this machine; filled by create_local_process_group.
_LOCAL_PROCESS_GROUP: dist.ProcessGroup | None = None
# Group for pickled objects if the default group does not support CPU tensors (NCCL).
_OBJECT_GROUP: dist.ProcessGroup | None = None


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Return the number of processes over all machines; 1 outside distributed runs."""
    return dist.get_world_size() if _running() else 1


def get_rank() -> int:
    """Return the rank of this process, in [0, world size)."""
    return dist.get_rank() if _running() else 0


def is_main_process() -> bool:
    """Return whether this is the process with rank 0, which writes files and logs."""
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Create the group of the processes on this machine; every process must call this once per run.

    Args:
        num_workers_per_machine: processes on each machine, equal on all; ranks must be numbered machine by machine, as
            by ``launch`` and ``torchrun``.

    Raises:
        RuntimeError: if called twice.
        ValueError: if the world size is not a multiple of the number.
    """
    global _LOCAL_PROCESS_GROUP
    if _LOCAL_PROCESS_GROUP is not None:
        raise BadState("the local process group already exists; call create_local_process_group only once")
    world, rank = get_world_size(), get_rank()
    if num_workers_per_machine < 1 or world % num_workers_per_machine:
        raise BadValue(
            f"num_workers_per_machine must divide the world size {world}, got {num_workers_per_machine}"
        )
    # new_group is collective: every process takes part in creating the groups of all machines.
    for first in range(0, world, num_workers_per_machine):
        members = list(range(first, first + num_workers_per_machine))
        group: Any = dist.new_group(members)
        if rank in members:
            _LOCAL_PROCESS_GROUP = group


def leave() -> None:
    """Leave the distributed run and destroy its process groups; does nothing in a single process."""
    global _LOCAL_PROCESS_GROUP, _OBJECT_GROUP
    if _running():
        dist.destroy_process_group()
    _LOCAL_PROCESS_GROUP = _OBJECT_GROUP = None


def get_local_process_group() -> dist.ProcessGroup:
    """Return the group of the processes on this machine.

    Raises:
        RuntimeError: if ``create_local_process_group`` has not run.
    """
    if _LOCAL_PROCESS_GROUP is None:
        raise BadState(
            "no local process group yet: start processes with detectron2.engine.launch, or call "
            "comm.create_local_process_group(processes_per_machine) after init_process_group"
        )
    return _LOCAL_PROCESS_GROUP


def _local(from_group: str, variable: str, default: int) -> int:
    """Return a number from the local group, else from the environment variable that torchrun sets."""
    if not _running():
        return default
    if _LOCAL_PROCESS_GROUP is not None:
        return int(getattr(dist, from_group)(group=_LOCAL_PROCESS_GROUP))
    value = os.environ.get(variable)
    if value is not None:
        return int(value)
    raise BadState(
        f"cannot determine the local rank of rank {get_rank()}: neither a local process group nor {variable} is set; "
        "use detectron2.engine.launch or torchrun"
    )


def get_local_rank() -> int:
    """Return the index of this process on its machine; 0 outside distributed runs."""
    return _local("get_rank", "LOCAL_RANK", 0)


def get_local_size() -> int:
    """Return the number of processes on this machine; 1 outside distributed runs."""
    return _local("get_world_size", "LOCAL_WORLD_SIZE", 1)


def synchronize() -> None:
    """Wait until every process has reached this call."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == "nccl":
        # Without a device, NCCL guesses one, which may be the same for all ranks of a machine.
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


def _object_group() -> dist.ProcessGroup | None:
    """Return a group that supports pickled objects in CPU memory; None for the default group."""
    global _OBJECT_GROUP
    if dist.get_backend() != "nccl":
        return None
    if _OBJECT_GROUP is None:
        made: Any = dist.new_group(backend="gloo")
        _OBJECT_GROUP = made
    return _OBJECT_GROUP


def all_gather(data: object, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Collect one picklable object from every process, in every process.

    Args:
        data: any picklable object.
        group: a group that supports CPU tensors; None for all processes.

    Returns:
        The objects in order of rank.
    """
    if get_world_size() == 1:
        return [data]
    group = group if group is not None else _object_group()
    size = dist.get_world_size(group)
    if size == 1:
        return [data]
    received: list[Any] = [None] * size
    dist.all_gather_object(received, data, group=group)
    return received


def gather(data: object, dst: int = 0, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Collect one picklable object from every process, in one process.

    Args:
        data: any picklable object.
        dst: receiving rank.
        group: a group that supports CPU tensors; None for all processes.

    Returns:
        The objects in order of rank on ``dst``, an empty list elsewhere.
    """
    if get_world_size() == 1:
        return [data]
    group = group if group is not None else _object_group()
    size = dist.get_world_size(group)
    if size == 1:
        return [data]
    here = dist.get_rank() == dst
    received: list[Any] | None = [None] * size if here else None
    dist.gather_object(data, received, dst=dst, group=group)
    return received if received is not None else []


def shared_random_seed() -> int:
    """Draw a random number in [0, 2**31) that is the same in all processes.

    It is drawn from NumPy's global generator of rank 0, so that it depends on the seed of the caller; every process must
    call this.
    """
    seed = int(np.random.randint(2**31, dtype=np.int64))
    return all_gather(seed)[0]


def reduce_dict(input_dict: Mapping[str, torch.Tensor], average: bool = True) -> dict[str, torch.Tensor]:
    """Sum or average scalars over all processes, for logging.

    Args:
        input_dict: scalar tensors on one device, with the same keys in all processes.
        average: divide by the world size.

    Returns:
        The reduced scalars sorted by key (a copy of the input for one process); only valid on rank 0.
    """
    world = get_world_size()
    if world == 1:
        return dict(input_dict)
    # The order of insertion may differ between processes.
    names = sorted(input_dict)
    with torch.no_grad():
        values = torch.stack([input_dict[name].detach() for name in names])
        dist.reduce(values, dst=0)
        if average and is_main_process():
            values /= world
    return dict(zip(names, values))
