"""Models too large for one device: FSDP2 sharding, and checkpoints in shards.

For loops of your own (`SimpleTrainer` takes the sharded model); `DefaultTrainer` replicates with DDP::

    shard_model(model, parts=["backbone"])              # after loading weights, before the optimizer
    optimizer = torch.optim.AdamW(model.parameters())
    save_sharded("run/step_1000", model, optimizer, {"iteration": 1000})
    extra = load_sharded("run/step_1000", model, optimizer)   # with any number of processes
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from detectron2.utils import comm
from detectron2.utils.atomic import atomic_write

__all__ = ["full_state_dict", "load_sharded", "save_sharded", "shard_model"]

_EXTRA = "extra.json"


def shard_model(model: nn.Module, parts: Sequence[str] = ("backbone",), **options: Any) -> list[str]:
    """Spreads the parameters of a model over all processes (FSDP2, `fully_shard`).

    Each element of the `Sequential`s and `ModuleList`s in `parts` (residual stages' blocks, transformer
    blocks) is gathered by itself when it runs; all other parameters are gathered together while the model
    runs. Parameters become `DTensor`s, so build the optimizer afterwards. Batch norm statistics are buffers
    and stay whole on each process.

    Args:
        model: with its weights loaded, on its device; changed in place.
        parts: names of modules.
        **options: as for `torch.distributed.fsdp.fully_shard`: `mesh`, `mp_policy`, `reshard_after_forward`.

    Returns:
        Names of the modules that are gathered by themselves.

    Raises:
        RuntimeError: outside a distributed run.
        ValueError: for a part that the model lacks.
    """
    from torch.distributed.fsdp import fully_shard

    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError("sharding needs processes to shard over: start with launch() or torchrun")
    names: list[str] = []
    known = dict(model.named_modules())
    for part in parts:
        if part not in known:
            tops = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"the model has no {part!r} to shard; it has: {tops}")
        names += _blocks(known[part], part)
    for name in names:
        fully_shard(known[name], **options)
    fully_shard(model, **options)
    return names


@contextmanager
def _quiet() -> Iterator[None]:
    """One process is what the caller means when there is no group; torch warns about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _blocks(module: nn.Module, prefix: str) -> list[str]:
    """Elements of the outermost lists of modules below a module, those with weights that learn."""
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
    """Writes a checkpoint of which each process writes its own shards; every process must call it.

    The folder appears under its name only when it is whole. It must lie where all processes see it.

    Args:
        folder: to write; one that exists is replaced.
        model: from `shard_model`, or an ordinary one.
        optimizer: its optimizer.
        extra: further values for JSON, such as the iteration.
    """
    unfinished = folder.rstrip("/") + ".unfinished"
    if comm.is_main_process():
        shutil.rmtree(unfinished, ignore_errors=True)
        os.makedirs(unfinished)
    comm.synchronize()
    weights, moments = get_state_dict(model, optimizer)
    with _quiet():
        dcp.save(
            {"model": weights, "optimizer": moments},
            checkpoint_id=unfinished,
            no_dist=not dist.is_initialized(),
        )
    if comm.is_main_process():
        with atomic_write(os.path.join(unfinished, _EXTRA)) as file:
            json.dump(dict(extra or {}), file)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    comm.synchronize()


def load_sharded(folder: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Reads what `save_sharded` wrote, with the same or another number of processes.

    Args:
        folder: to read.
        model: changed in place.
        optimizer: changed in place.

    Returns:
        The extra values.

    Raises:
        FileNotFoundError: if the folder is no whole checkpoint.
    """
    path = os.path.join(folder, _EXTRA)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{folder} is no whole sharded checkpoint: it has no {_EXTRA}")
    weights, moments = get_state_dict(model, optimizer)
    state: dict[str, Any] = {"model": weights, "optimizer": moments}
    with _quiet():
        dcp.load(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    with open(path) as file:
        extra: dict[str, Any] = json.load(file)
    return extra


def full_state_dict(model: nn.Module) -> dict[str, Any]:
    """The whole weights on the main process, to save as an ordinary checkpoint; every process must call it.

    Returns:
        Tensors on the CPU; empty on other processes.
    """
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
