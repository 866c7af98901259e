"""Starting the processes of a distributed run."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detectron2.utils import comm

from .safety.meeting import explains_missing_ranks, join, use_device

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others, at the start and in each collective."""

logger = logging.getLogger(__name__)

# Seconds that the other processes have to exit by themselves, with their own errors, after one has failed.
_GRACE = 10.0
# Exit status of a process that was interrupted, as in shells.
_INTERRUPTED = 130


def _find_free_port() -> int:
    """Return a TCP port that is free on this machine now; another program may still take it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _under_torchrun() -> bool:
    return all(
        name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    )


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """Call a function in one process per device, on every machine.

    A single process calls the function directly. Under ``torchrun``, which has already started the processes, rank and
    world size come from the environment, and the numbers of processes and machines here are ignored. Without CUDA, the
    processes run on the CPU and communicate through gloo.

    Args:
        main_func: function to run; must be importable, since processes are spawned.
        num_gpus_per_machine: processes on this machine (devices, or CPU processes without CUDA).
        num_machines: number of machines.
        machine_rank: number of this machine, from 0.
        dist_url: ``tcp://HOST:PORT`` of machine 0, the same on all machines; ``"auto"`` or None picks a free port for
            a single machine.
        args: arguments for ``main_func``.
        timeout: how long to wait for other processes.

    Returns:
        The result of ``main_func`` if it ran in this process (a single process, or torchrun), else None.

    Raises:
        ValueError: if there are several machines and no address.
        RuntimeError: if a process fails or never appears; the text names its rank.
    """
    if _under_torchrun():
        return _run_in_place(main_func, args, timeout)
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        return main_func(*args)
    if dist_url in (None, "auto"):
        if num_machines > 1:
            raise ValueError(
                "several machines need the address of the first one: --dist-url tcp://HOST:PORT, the same on all"
            )
        dist_url = f"tcp://127.0.0.1:{_find_free_port()}"
    assert dist_url is not None
    if num_machines > 1 and dist_url.startswith("file://"):
        logger.warning(
            "A file:// address works for several machines only on a shared file system; prefer tcp://"
        )
    _check_devices(num_gpus_per_machine)
    context = mp.start_processes(
        _worker,
        nprocs=num_gpus_per_machine,
        args=(main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args, timeout),
        join=False,
        daemon=False,
        start_method="spawn",
    )
    _wait(context)
    return None


def _wait(context: Any) -> None:
    """Wait for the processes; after Ctrl-C, which they receive too, let them save and exit first."""

    def finish() -> None:
        while not context.join(grace_period=_GRACE):
            pass

    try:
        try:
            finish()
        except KeyboardInterrupt:
            logger.warning(
                "Interrupted; the processes finish their iteration. Interrupt again to stop them at once."
            )
            finish()
            raise
    except KeyboardInterrupt:
        for process in context.processes:
            process.terminate()
        raise
    except mp.ProcessExitedException as error:
        if error.exit_code != _INTERRUPTED:
            raise
        raise KeyboardInterrupt from None


def _check_devices(wanted: int) -> None:
    if torch.cuda.is_available() and wanted > torch.cuda.device_count():
        raise ValueError(
            f"{wanted} processes were requested, but this machine has {torch.cuda.device_count()} GPU(s): lower "
            "--num-gpus"
        )


def _backend() -> str:
    return "nccl" if torch.cuda.is_available() else "gloo"


def _worker(
    local_rank: int,
    main_func: Callable[..., Any],
    world_size: int,
    per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple[Any, ...],
    timeout: timedelta,
) -> None:
    """Run in a spawned process."""
    rank = machine_rank * per_machine + local_rank
    use_device(local_rank)
    join(_backend(), dist_url, world_size, rank, timeout)
    try:
        with explains_missing_ranks():
            comm.create_local_process_group(per_machine)
            comm.synchronize()
            main_func(*args)
    except KeyboardInterrupt:  # already logged; no traceback needed
        sys.exit(_INTERRUPTED)
    finally:
        comm.leave()


def _run_in_place(main_func: Callable[..., Any], args: tuple[Any, ...], timeout: timedelta) -> Any:
    """Run in a process that torchrun started."""
    if dist.is_initialized():  # the caller has joined the process group
        return main_func(*args)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    use_device(int(os.environ["LOCAL_RANK"]))
    join(_backend(), "env://", world_size, rank, timeout)
    try:
        with explains_missing_ranks():
            per_machine = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
            # Machines with different numbers of processes cannot be grouped; get_local_rank then reads the environment.
            if world_size % per_machine == 0 and len(set(comm.all_gather(per_machine))) == 1:
                comm.create_local_process_group(per_machine)
            comm.synchronize()
            return main_func(*args)
    finally:
        comm.leave()
