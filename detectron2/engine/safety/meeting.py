"""Joining the processes of a distributed run, and naming those that are missing."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist

__all__ = ["explains_missing_ranks", "join"]

logger = logging.getLogger(__name__)

# How long processes that noticed a failure wait for each other before they name the missing ones: all notice a closed
# connection at once, but a time-out only after each has waited for its full time.
_PATIENCE_CLOSED, _PATIENCE_TIMEOUT = timedelta(seconds=2), timedelta(seconds=15)
# Error texts of backends when another process does not answer or has exited.
_SILENCE = re.compile(
    r"timed? ?out|connection (closed|reset|refused)|broken pipe|socket|gloo|nccl|peer", re.IGNORECASE
)


def _key(kind: str, rank: int) -> str:
    """Return a key of the store."""
    return f"detectron2/{kind}/{rank}"


def _absent(store: dist.Store, kind: str, ranks: Sequence[int], patience: timedelta) -> list[int]:
    """Return the ranks that do not set their key of a kind in time."""
    until = time.monotonic() + patience.total_seconds()
    while True:
        missing = [rank for rank in ranks if not store.check([_key(kind, rank)])]
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(0.05)


def _store(init_method: str, world_size: int, rank: int, timeout: timedelta) -> dist.Store:
    """Return the store shared by all processes; unlike PyTorch's own, it does not wait for all of them to connect."""
    own = init_method
    if init_method == "env://" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        own = f"tcp://{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    if own.startswith("tcp://"):
        place = urlsplit(own)
        if place.hostname is None or place.port is None:
            raise ValueError(f"an address must be tcp://HOST:PORT, got {own!r}")
        return dist.TCPStore(
            place.hostname, place.port, world_size, rank == 0, timeout=timeout, wait_for_workers=False
        )
    found: Any = next(iter(dist.rendezvous(own, rank, world_size, timeout=timeout)))
    return found[0]


def join(backend: str, init_method: str, world_size: int, rank: int, timeout: timedelta) -> None:
    """Join the other processes of a run.

    Args:
        backend: backend of ``torch.distributed``.
        init_method: address, see ``dist_url`` of ``launch``.
        world_size: number of processes.
        rank: rank of this process.
        timeout: how long to wait, here and in each collective.

    Raises:
        RuntimeError: if some processes do not appear in time; the text names their ranks.
    """
    seconds = f"{timeout.total_seconds():.0f} s"
    advice = (
        "Check that every machine runs the same command with its own --machine-rank, that the address is that of "
        "machine 0, and that no firewall closes the port (another port in --dist-url may help)."
    )
    # torchrun keeps its store when it restarts processes. Without a separate prefix, they could read the address of a
    # process that has exited, and wait for it.
    attempt = f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}_of_{world_size}"
    try:
        store = dist.PrefixStore(attempt, _store(init_method, world_size, rank, timeout))
        store.set(_key("present", rank), "1")
        missing = _absent(store, "present", range(world_size), timeout)
    except (RuntimeError, OSError) as error:
        raise RuntimeError(
            f"rank {rank} of {world_size} could not reach rank 0 at {init_method} within {seconds}. "
            f"{advice} Cause: {error}"
        ) from error
    if missing:
        raise RuntimeError(
            f"rank {rank} of {world_size} has waited {seconds} at {init_method} for ranks {missing}, which have not "
            f"appeared. Look at the logs of their machines. {advice}"
        )
    dist.init_process_group(backend, store=store, world_size=world_size, rank=rank, timeout=timeout)


@contextmanager
def explains_missing_ranks() -> Iterator[None]:
    """Add the missing ranks to the error of a failed collective.

    Processes that notice the failure set a key in the store and wait for each other for a short time; a process that
    does not set its key hangs or has exited.
    """
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        if not dist.is_initialized() or not _SILENCE.search(str(error)):
            raise
        late = re.search(r"timed? ?out", str(error), re.IGNORECASE)
        found = _silent_ranks(_PATIENCE_TIMEOUT if late else _PATIENCE_CLOSED)
        if not found:
            raise
        raise RuntimeError(
            f"rank {dist.get_rank()} of {dist.get_world_size()} has lost the others: {found}. Look at their logs and "
            f"machines; a rank that loads data or evaluates for longer than the time-out blocks all. Cause: {error}"
        ) from error


def _silent_ranks(patience: timedelta) -> str:
    """Describe the ranks that do not answer after a failure; empty if all do."""
    store = dist.distributed_c10d._get_default_store()
    rank, world_size = dist.get_rank(), dist.get_world_size()
    try:
        store.set_timeout(patience)
        store.set(_key("noticed", rank), "1")
        missing = _absent(store, "noticed", range(world_size), patience)
        # Rank 0 often holds the store, which must live until all have read it.
        store.set(_key("told", rank), "1")
        if rank == 0:
            _absent(store, "told", [r for r in range(world_size) if r not in missing], timedelta(seconds=3))
    except (RuntimeError, OSError):
        return "rank 0, which keeps the list of those present, does not answer"
    return f"ranks {missing} do not answer" if missing else ""


def use_device(local_rank: int) -> None:
    """Make the device of this process the current one."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
