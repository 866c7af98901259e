"""Read checkpoint files of any format, and check that they are complete."""

import numbers
import os
from collections.abc import Mapping
from typing import Any

from ..errors import BrokenCheckpointError
from .safetensors_files import read_safetensors, verify_safetensors
from .shards import read_rest, read_shards, verify_shards
from .torch_files import read_pickle, read_torch, verify_torch

__all__ = ["holds_training", "iteration_of", "read_checkpoint_file", "verify_checkpoint_file"]


def read_checkpoint_file(path: str | os.PathLike[str], *, mmap: bool = False) -> Any:
    """Read a local checkpoint without running code from it.

    Args:
        path: a ``.shards`` folder (gives whole tensors), a ``.safetensors`` file (gives ``{"model": tensors}``, and
            ``"model_card"`` if it has one), a ``.pkl`` file (a pickle of arrays), or a file of ``torch.save``. Tensors
            are on the CPU.
        mmap: leave tensors on disk until they are used; only for PyTorch's zip files.

    Raises:
        FileNotFoundError: if there is no such file.
        BrokenCheckpointError: if the file is truncated or damaged.
        UnsafeCheckpointError: if reading it would run code.
        ImportError: if a ``.safetensors`` file needs that package.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        return read_shards(name)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"there is no checkpoint file {name!r}")
    if name.endswith(".safetensors"):
        return read_safetensors(name)
    return read_pickle(name) if name.endswith(".pkl") else read_torch(name, mmap)


def verify_checkpoint_file(path: str | os.PathLike[str]) -> None:
    """Check that a local checkpoint is complete, without creating its tensors if the format allows it.

    Files of ``torch.save`` are checked by the CRC-32 of their records, ``.safetensors`` by the length in the header,
    others by reading them.

    Raises:
        FileNotFoundError: if there is no such file.
        BrokenCheckpointError: if it is truncated or damaged; the message says what is wrong.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        verify_shards(name)
    elif not os.path.isfile(name):
        raise FileNotFoundError(f"there is no checkpoint file {name!r}")
    elif name.endswith(".safetensors"):
        verify_safetensors(name)
    elif name.endswith(".pkl"):
        read_pickle(name)
    else:
        verify_torch(name)


def holds_training(path: str, needs_iteration: bool = True) -> bool:
    """Return whether a complete file is a checkpoint of a training rather than an export of weights.

    Args:
        path: local file or folder.
        needs_iteration: whether it must state its iteration.

    Raises:
        BrokenCheckpointError: if the file has no weights, or cannot be read.
        UnsafeCheckpointError: if reading it would run code.
    """
    content = _contents(path)
    if not isinstance(content, Mapping):
        raise BrokenCheckpointError(f"{path!r} must be a dict, got {type(content).__name__}")
    if content.get("weights_only"):
        return False
    if not isinstance(content.get("model"), Mapping):
        raise BrokenCheckpointError(f"{path!r} has no weights: it has no dict 'model'")
    iteration = content.get("iteration")
    if not isinstance(iteration, numbers.Integral | None):
        raise BrokenCheckpointError(f"{path!r} has a {type(iteration).__name__} as its iteration")
    return iteration is not None or not needs_iteration


def iteration_of(path: str) -> int | None:
    """Return the iteration of a checkpoint; None if it cannot be read or has none."""
    try:
        content = _contents(path)
    except (OSError, ValueError):
        return None
    iteration = content.get("iteration") if isinstance(content, Mapping) else None
    return int(iteration) if isinstance(iteration, numbers.Integral) else None


def _contents(path: str) -> Any:
    """Read a checkpoint, leaving its tensors on disk if possible."""
    return read_rest(path) if os.path.isdir(path) else read_checkpoint_file(path, mmap=True)
