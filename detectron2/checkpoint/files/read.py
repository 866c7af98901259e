"""Checkpoint files of any format: read them, and find out whether they are whole."""

import os
from typing import Any

from ..errors import BrokenCheckpointError
from .safetensors_files import read_safetensors, verify_safetensors
from .shards import read_shards, verify_shards
from .torch_files import read_pickle, read_torch, verify_torch

__all__ = ["is_whole", "read_checkpoint_file", "verify_checkpoint_file"]


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


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Return whether :func:`verify_checkpoint_file` finds nothing wrong."""
    try:
        verify_checkpoint_file(path)
    except (BrokenCheckpointError, FileNotFoundError):
        return False
    return True
