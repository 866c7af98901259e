"""FSDP2 sharding and sharded checkpoints, for models too large for one device.

``DefaultTrainer`` shards the model with ``SOLVER.FSDP.ENABLED``. In your own loop (``SimpleTrainer`` accepts the sharded
model)::

    shard_model(model, parts=["backbone"])              # after loading weights, before the optimizer
    optimizer = torch.optim.AdamW(model.parameters())
    save_sharded("run/step_1000", model, optimizer, {"iteration": 1000})
    extra = load_sharded("run/step_1000", model, optimizer)   # with any number of processes
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from detectron2.checkpoint.files.shards import is_sharded, read_shards, verify_shards, whole, write_shards
from detectron2.utils import comm

__all__ = ["full_state_dict", "load_sharded", "save_sharded", "shard_model", "whole_weights"]


def shard_model(model: nn.Module, parts: Sequence[str] = ("backbone",), **options: Any) -> list[str]:
    """Shard the parameters of a model over all processes (FSDP2, ``fully_shard``).

    Each element of a ``Sequential`` or ``ModuleList`` in ``parts`` (blocks of residual stages, transformer
    blocks) is gathered separately when it runs; all other parameters are gathered together while the model runs.
    Parameters become of type ``DTensor``, so build the optimizer afterwards. Batch norm statistics are buffers and are not
    sharded.

    Args:
        model: the model with its weights loaded, on its device; changed in place.
        parts: names of modules.
        **options: arguments of ``torch.distributed.fsdp.fully_shard``: ``mesh``, ``mp_policy``,
            ``reshard_after_forward``.

    Returns:
        Names of the modules that are gathered separately.

    Raises:
        RuntimeError: outside a distributed run.
        ValueError: if the model lacks a part.
    """
    from torch.distributed.fsdp import fully_shard

    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError("sharding needs a distributed run: start with launch() or torchrun")
    names: list[str] = []
    known = dict(model.named_modules())
    for part in parts:
        if part not in known:
            tops = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"the model has no {part!r} to shard; it has: {tops}")
        names += _blocks(known[part], part)
    # Each process may have initialised different weights.
    _send_from_main((*model.parameters(), *model.buffers()))
    for name in names:
        fully_shard(known[name], **options)
    fully_shard(model, **options)
    return names


@torch.no_grad()
def _send_from_main(tensors: Iterable[torch.Tensor]) -> None:
    """Replace tensors of all processes by those of the main one."""
    if comm.get_world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """Hold the same, unsharded model on every process within a ``with`` block, as in its checkpoint.

    Sharded weights are gathered, and the buffers of the main process replace those of the others, whose batch norms
    have seen other images. Forward passes inside the block do not communicate, so processes may run different numbers
    of them, as evaluations do. All processes must enter and leave the block together.
    """
    from torch.distributed.fsdp import FSDPModule

    _send_from_main(model.buffers())
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            # The backward pass starts with the outermost part.
            part.set_reshard_after_forward(part is not parts[0], recurse=False)
            part.reshard()


def _blocks(module: nn.Module, prefix: str) -> list[str]:
    """Return the elements with trainable weights of the outermost module lists below a module."""
    found: list[str] = []
    for name, child in module.named_children():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            found += [
                f"{path}.{inner}"
                for inner, element in child.named_children()
                if any(p.requires_grad for p in element.parameters())
                # A list has no forward pass that could gather its weights.
                and not isinstance(element, (nn.ModuleList, nn.ModuleDict))
            ]
        else:
            found += _blocks(child, path)
    return found


def save_sharded(
    folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, extra: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint to which each process adds its own shards; every process must call it.

    The folder gets its final name only when it is complete. All processes must have access to it.

    Args:
        folder: folder to write; an existing one is replaced.
        model: a model, sharded or not.
        optimizer: its optimizer.
        extra: further numbers, strings, tensors and containers of them, such as the iteration.

    Raises:
        OSError: on every process, if one of them cannot write.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "extra": dict(extra or {})}
    write_shards(state, folder)


def load_sharded(folder: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Read what ``save_sharded`` wrote, with the same or another number of processes.

    Args:
        folder: folder to read.
        model: changed in place.
        optimizer: changed in place.

    Returns:
        The extra values.

    Raises:
        BrokenCheckpointError: if the folder is not a complete checkpoint.
    """
    verify_shards(folder)
    mesh = next((getattr(p, "device_mesh") for p in model.parameters() if is_sharded(p)), None)  # noqa: B009
    state = read_shards(folder, mesh)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    extra: dict[str, Any] = state["extra"]
    return extra


def full_state_dict(model: nn.Module) -> dict[str, Any]:
    """Gather the full weights on the main process, for an ordinary checkpoint; every process must call it.

    Returns:
        Tensors on the CPU; empty on other processes.
    """
    gathered = {}
    for name, tensor in model.state_dict().items():
        one = whole(tensor)
        if comm.is_main_process():
            gathered[name] = one
    return gathered
