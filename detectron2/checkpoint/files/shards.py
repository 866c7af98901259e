"""Sharded checkpoints: a folder to which each process writes its own part, readable by any number of processes.

The sharded tensors (``DTensor``) of a nested state are written by ``torch.distributed.checkpoint``; everything else,
with placeholders for these tensors, is in ``rest.pth``. ``shards.json`` is written last and has the size and the CRC-32
of every file.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist

from detectron2.utils import comm
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.safe_pickle import restricted_load

from ..errors import BrokenCheckpointError
from .torch_files import read_torch, write_checkpoint_file

if TYPE_CHECKING:
    from torch.distributed.checkpoint import FileSystemReader
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

__all__ = [
    "SHARDS",
    "is_sharded",
    "own_part",
    "read_rest",
    "read_shards",
    "spread_like",
    "verify_shards",
    "whole",
    "write_shards",
]

SHARDS = ".shards"
"""Suffix of such a folder."""

_LIST, _REST, _MARK = "shards.json", "rest.pth", "__shard__"


def is_sharded(value: object) -> TypeGuard[DTensor]:
    """Return whether a tensor is sharded over processes."""
    return isinstance(value, torch.Tensor) and hasattr(value, "device_mesh")


def whole(value: object) -> object:
    """Gather a sharded tensor on the CPU; every process must call this. Return other values unchanged."""
    return value.full_tensor().cpu() if is_sharded(value) else value


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a sharded tensor, without communication; return other tensors unchanged."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def spread_like(value: torch.Tensor, model: object) -> torch.Tensor:
    """Shard a whole tensor as ``model`` is sharded; return it unchanged if ``model`` is not sharded."""
    if not is_sharded(model) or is_sharded(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(device=model.device, dtype=model.dtype)
    # Every process has the whole tensor, so that nothing needs to be sent.
    return distribute_tensor(value, model.device_mesh, model.placements, src_data_rank=None)


def _take_out(tree: object, path: str, found: dict[str, torch.Tensor]) -> object:
    """Copy nested containers with placeholders for sharded tensors, which are added to ``found``."""
    if is_sharded(tree):
        found[path] = tree
        return {_MARK: path}
    if isinstance(tree, Mapping):
        return {key: _take_out(value, f"{path}/{key}", found) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_take_out(value, f"{path}/{i}", found) for i, value in enumerate(tree))
    return tree


def _put_back(tree: object, found: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(tree, dict):
        if set(tree) == {_MARK}:
            return found[tree[_MARK]]
        return {key: _put_back(value, found) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_put_back(value, found) for value in tree)
    return tree


# --------------------------------------------------------------------------------------------------- writing
def write_shards(data: Mapping[str, Any], folder: str) -> None:
    """Write a nested state; every process must call this and see the folder.

    The folder gets its name once it is complete, and then replaces an existing one. The main process writes everything
    that is not sharded.

    Raises:
        OSError: on every process if one could not write; an existing folder is intact.
    """
    folder = folder.rstrip("/")
    parent, name = os.path.split(os.path.abspath(folder))
    unfinished = os.path.join(parent, f".{name}.parts.tmp")
    if comm.is_main_process():
        shutil.rmtree(unfinished, ignore_errors=True)
        os.makedirs(unfinished)
    comm.synchronize()
    spread: dict[str, torch.Tensor] = {}
    rest = _take_out(dict(data), "", spread)
    _all_or_none(lambda: _write_parts(rest, spread, unfinished), folder, unfinished)
    sums = comm.gather(_sums(unfinished, _own_files(unfinished)))
    _all_or_none(lambda: _finish(unfinished, folder, sums), folder, unfinished)


def _all_or_none(work: Callable[[], object], folder: str, unfinished: str) -> None:
    """Call ``work`` on every process, and raise an error on all if it fails on one."""
    problem = ""
    try:
        work()
    except Exception as e:  # torch.distributed.checkpoint wraps the errors of other processes
        problem = f"rank {comm.get_rank()}: {str(e).strip().splitlines()[-1] if str(e).strip() else type(e).__name__}"
    problems = [p for p in comm.all_gather(problem) if p]
    if not problems:
        return
    if comm.is_main_process():
        shutil.rmtree(unfinished, ignore_errors=True)
    raise OSError(
        f"could not write the checkpoint {folder!r}: {'; '.join(problems)}. Earlier checkpoints are intact."
    )


def _write_parts(rest: object, spread: dict[str, torch.Tensor], folder: str) -> None:
    import torch.distributed.checkpoint as dcp

    if spread:
        with _quiet():
            dcp.save(spread, checkpoint_id=folder, no_dist=not dist.is_initialized())
    if comm.is_main_process():
        write_checkpoint_file(rest, os.path.join(folder, _REST))


def _own_files(folder: str) -> list[str]:
    """Return the files that this process has written; the main one also writes the shared files."""
    mark = f"__{comm.get_rank()}_"
    shared = comm.is_main_process()
    return [
        name
        for name in sorted(os.listdir(folder))
        if name.startswith(mark) or (shared and not name.startswith("__"))
    ]


def _sums(folder: str, names: list[str]) -> dict[str, list[int]]:
    """Return the size and the CRC-32 of each file by name."""
    return {name: list(_size_and_sum(os.path.join(folder, name))) for name in names}


def _size_and_sum(path: str) -> tuple[int, int]:
    total = size = 0
    with open(path, "rb") as f:
        while chunk := f.read(1 << 24):
            total, size = zlib.crc32(chunk, total), size + len(chunk)
    return size, total


def _finish(unfinished: str, folder: str, sums: list[dict[str, list[int]]]) -> None:
    if not comm.is_main_process():
        return
    files = {name: entry for part in sums for name, entry in part.items()}
    with atomic_write(os.path.join(unfinished, _LIST)) as f:
        json.dump({"processes": comm.get_world_size(), "files": files}, f, indent=1)
    if os.path.isdir(folder):
        shutil.rmtree(folder)
    os.replace(unfinished, folder)


# --------------------------------------------------------------------------------------------------- reading
def verify_shards(folder: str) -> None:
    """Check that a sharded checkpoint is complete.

    Raises:
        BrokenCheckpointError: if it is not; the message says what is wrong.
    """
    path = os.path.join(folder, _LIST)
    try:
        with open(path, encoding="utf-8") as f:
            listed: dict[str, list[int]] = json.load(f)["files"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BrokenCheckpointError(f"{folder!r} is not a complete sharded checkpoint: {_LIST}: {e}") from e
    for name, expected in listed.items():
        try:
            found = list(_size_and_sum(os.path.join(folder, os.path.basename(name))))
        except OSError as e:
            raise BrokenCheckpointError(f"{folder!r} is damaged: {e}") from e
        if found != expected:
            raise BrokenCheckpointError(f"{folder!r} is damaged: size or checksum of {name} does not match")


def read_shards(folder: str, mesh: DeviceMesh | None = None) -> dict[str, Any]:
    """Read a checkpoint of :func:`write_shards` with any number of processes.

    Args:
        folder: folder to read.
        mesh: processes over which to shard the tensors by their first dimension; each must call this and reads its own
            part. None gives whole tensors on the CPU.

    Raises:
        BrokenCheckpointError: if it is not a complete checkpoint.
        UnsafeCheckpointError: if reading it would run code.
    """
    rest = read_rest(folder)
    if not os.path.isfile(os.path.join(folder, ".metadata")):
        return rest
    import torch.distributed.checkpoint as dcp

    reader = _reader(folder)
    found = {name: _empty(entry, mesh) for name, entry in reader.read_metadata().state_dict_metadata.items()}
    try:
        with _quiet():
            dcp.load(found, storage_reader=reader, no_dist=mesh is None)
    except (RuntimeError, OSError, ValueError, dcp.api.CheckpointException) as e:
        raise BrokenCheckpointError(f"{folder!r} cannot be read: {e}") from e
    return _put_back(rest, found)


def read_rest(folder: str) -> dict[str, Any]:
    """Read everything except the sharded tensors.

    Raises:
        BrokenCheckpointError, UnsafeCheckpointError: see :func:`read_shards`.
    """
    if not os.path.isfile(os.path.join(folder, _LIST)):
        raise BrokenCheckpointError(f"{folder!r} is not a complete sharded checkpoint: it has no {_LIST}")
    return read_torch(os.path.join(folder, _REST))


def _empty(entry: Any, mesh: DeviceMesh | None) -> torch.Tensor:
    """Create a tensor to read into."""
    if mesh is None:
        return torch.empty(entry.size, dtype=entry.properties.dtype)
    from torch.distributed.tensor import Shard, empty

    return empty(*entry.size, dtype=entry.properties.dtype, device_mesh=mesh, placements=[Shard(0)])


def _reader(folder: str) -> FileSystemReader:
    """Create a reader of the folder that reads its table of contents safely."""
    from torch.distributed.checkpoint import FileSystemReader

    class Reader(FileSystemReader):
        def read_metadata(self, *args: object, **kwargs: object) -> Metadata:
            found = _read_contents(os.path.join(folder, ".metadata"))
            found.storage_meta.load_id = self.load_id
            return found

    return Reader(folder)


# Classes allowed in the table of contents: records of names, sizes and offsets.
_CONTENTS = {
    "torch.distributed.checkpoint.metadata": (
        "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties",
        "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.serialization": ("_get_layout",),
    "pathlib": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
}  # fmt: skip


def _read_contents(path: str) -> Any:
    """Read the table of contents of a sharded checkpoint, which is a pickle."""
    known = {
        f"{home}.{name}": getattr(import_module(home), name)
        for home, names in _CONTENTS.items()
        for name in names
        if hasattr(import_module(home), name)
    }
    with open(path, "rb") as f:
        return restricted_load(f, where=path, names=known)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's warning about a missing process group: a single process is intended."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
