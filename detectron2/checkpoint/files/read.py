"""Checkpoint files of any format: read them, and find out whether they are whole."""

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
            ``"model_card"`` if there is one), a ``.pkl`` file (a pickle of arrays); anything else is read as what
            ``torch.save`` wrote. Tensors are on the CPU.
        mmap: leave tensors on disk until they are used; only for PyTorch's zip files.

    Raises:
        FileNotFoundError: if there is no such file.
        BrokenCheckpointError: if the file is truncated or damaged.
        UnsafeCheckpointError: if it asks for code to be run.
        ImportError: for ``.safetensors`` without that package.
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
    """Check that a local checkpoint is whole, without building its tensors where the format allows.

    Files of ``torch.save`` are checked record by record against their CRC-32, ``.safetensors`` by the length that the
    header promises, others by reading them.

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
    """Return whether a whole file is a checkpoint of a training, and no export of weights.

    Args:
        path: local file or folder.
        needs_iteration: whether it must say at which iteration it was written.

    Raises:
        BrokenCheckpointError: if the file holds no weights, or cannot be read.
        UnsafeCheckpointError: if it asks for code to be run.
    """
    content = _contents(path)
    if not isinstance(content, Mapping):
        raise BrokenCheckpointError(f"{path!r} holds no dict but {type(content).__name__}")
    if content.get("weights_only"):
        return False
    if not isinstance(content.get("model"), Mapping):
        raise BrokenCheckpointError(f"{path!r} holds no weights: it has no dict 'model'")
    iteration = content.get("iteration")
    if not isinstance(iteration, numbers.Integral | None):
        raise BrokenCheckpointError(f"{path!r} has a {type(iteration).__name__} as its iteration")
    return iteration is not None or not needs_iteration


def iteration_of(path: str) -> int | None:
    """Return the iteration that a checkpoint was written at; None if it cannot be read or does not say."""
    try:
        content = _contents(path)
    except (OSError, ValueError):
        return None
    iteration = content.get("iteration") if isinstance(content, Mapping) else None
    return int(iteration) if isinstance(iteration, numbers.Integral) else None


def _contents(path: str) -> Any:
    """Read a checkpoint, its tensors left on disk where that is possible."""
    return read_rest(path) if os.path.isdir(path) else read_checkpoint_file(path, mmap=True)
