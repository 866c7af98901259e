"""Checkpoint files: reading without running code, writing atomically, and finding out whether one is whole.

PyTorch writes a zip archive with a CRC-32 of every record and its table of contents at the end. So each file carries
its own checksums: a truncated file lacks the table, a damaged one has a record that does not fit its sum.
"""

import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import torch

from detectron2.utils.atomic import atomic_write
from detectron2.utils.safe_pickle import numpy_safe_globals, restricted_load

from ..errors import BrokenCheckpointError, UnsafeCheckpointError

__all__ = [
    "is_whole",
    "read_checkpoint_file",
    "save_safetensors",
    "verify_checkpoint_file",
    "write_checkpoint_file",
]


def read_checkpoint_file(path: str | os.PathLike[str], *, mmap: bool = False) -> Any:
    """Read a local checkpoint of any kind that we know, without running code from it.

    Args:
        path: a ``.shards`` folder (gives whole tensors), ``.safetensors`` (gives ``{"model": tensors}`` and ``"model_card"`` if there is one), ``.pkl`` (pickle of
            arrays), anything else: what ``torch.save`` wrote. Tensors come on the CPU.
        mmap: leave tensors on disk until they are used; for PyTorch's zip files only.

    Raises:
        FileNotFoundError: if there is none.
        BrokenCheckpointError: if the file is truncated or damaged.
        UnsafeCheckpointError: if it asks for code to be run.
        ImportError: for ``.safetensors`` without that package.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        from .shards import read_shards

        return read_shards(name)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"there is no checkpoint file {name!r}")
    if name.endswith(".safetensors"):
        return _read_safetensors(name)
    if name.endswith(".pkl"):
        return _read_pickle(name)
    return _read_torch(name, mmap)


def _read_pickle(path: str) -> Any:
    try:
        with open(path, "rb") as f:
            return restricted_load(f, where=repr(path))
    except UnsafeCheckpointError:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        IndexError,
        KeyError,
        AttributeError,
        TypeError,
    ) as e:
        raise BrokenCheckpointError(
            f"{path!r} cannot be read as a pickle of arrays ({_size(path)}): {e}"
        ) from e


def _read_torch(path: str, mmap: bool) -> Any:
    zipped = zipfile.is_zipfile(path)
    if not zipped and _starts_like_zip(path):
        raise BrokenCheckpointError(_truncated(path))
    try:
        with torch.serialization.safe_globals(numpy_safe_globals()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipped)
    except pickle.UnpicklingError as e:
        text = str(e)
        if "Unsupported global" in text or "Unsupported class" in text or "GLOBAL" in text:
            raise UnsafeCheckpointError(
                f"{path!r} holds more than tensors, arrays and plain containers, and reading it could run code; it "
                f"was not read. PyTorch says: {_first_line(text)} If you trust the file, read it once with "
                "torch.load(weights_only=False) and save {'model': state_dict} anew."
            ) from e
        raise BrokenCheckpointError(f"{path!r} cannot be read ({_size(path)}): {_first_line(text)}") from e
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as e:
        raise BrokenCheckpointError(f"{path!r} cannot be read ({_size(path)}): {_first_line(str(e))}") from e


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wanted = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    return (wanted or lines or [""])[0][:300]


def _size(path: str) -> str:
    return f"{os.path.getsize(path):,} bytes"


def _truncated(path: str) -> str:
    return f"{path!r} is truncated: it begins as a PyTorch file but its table of contents is missing ({_size(path)})"


def _starts_like_zip(path: str) -> bool:
    with open(path, "rb") as f:
        return f.read(4) == b"PK\x03\x04"


def verify_checkpoint_file(path: str | os.PathLike[str]) -> None:
    """Check that a local file is whole, without building its tensors.

    Zip files (``torch.save``) are checked record by record against their CRC-32; ``.safetensors`` by the length that
    the header promises; others by reading them.

    Raises:
        FileNotFoundError: if there is none.
        BrokenCheckpointError: with what is wrong.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        from .shards import verify_shards

        verify_shards(name)
        return
    if not os.path.isfile(name):
        raise FileNotFoundError(f"there is no checkpoint file {name!r}")
    if zipfile.is_zipfile(name):
        try:
            with zipfile.ZipFile(name) as archive:
                bad = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as e:
            raise BrokenCheckpointError(f"{name!r} is damaged: {e}") from e
        if bad is not None:
            raise BrokenCheckpointError(
                f"{name!r} is damaged: the checksum of its record {bad!r} does not fit"
            )
    elif _starts_like_zip(name):
        raise BrokenCheckpointError(_truncated(name))
    elif name.endswith(".safetensors"):
        _verify_safetensors(name)
    else:
        read_checkpoint_file(name)


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether :func:`verify_checkpoint_file` finds nothing wrong."""
    try:
        verify_checkpoint_file(path)
    except (BrokenCheckpointError, FileNotFoundError):
        return False
    return True


def write_checkpoint_file(data: Any, path: str | os.PathLike[str]) -> None:
    """Write ``data`` with ``torch.save`` so that a crash leaves the old file or the new one, never a part.

    Raises:
        OSError: if it cannot be written, for example because the disk is full; what was there before is intact.
    """
    try:
        with atomic_write(path, "wb") as f:
            torch.save(data, f)
    except (OSError, RuntimeError) as e:
        raise OSError(
            f"could not write the checkpoint {os.fspath(path)!r}: {_first_line(str(e))}. Earlier checkpoints are "
            f"intact. {_free_space(path)}"
        ) from e


def _free_space(path: str | os.PathLike[str]) -> str:
    try:
        stat = os.statvfs(os.path.dirname(os.path.abspath(path)))
    except (OSError, AttributeError):  # no such folder; no such call on this system
        return ""
    return f"Free space there: {stat.f_bavail * stat.f_frsize / 2**20:,.0f} MiB."


# ---------------------------------------------------------------------------------------------- safetensors
def _need_safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as e:
        raise ImportError(
            "a .safetensors file needs one more package: pip install 'detectron2[safetensors]'"
        ) from e
    return safetensors.torch


def _read_safetensors(path: str) -> dict[str, Any]:
    _need_safetensors()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as f:
            found: dict[str, Any] = {"model": {key: f.get_tensor(key) for key in f.keys()}}
            card = (f.metadata() or {}).get("model_card")
    except SafetensorError as e:
        raise BrokenCheckpointError(f"{path!r} cannot be read ({_size(path)}): {e}") from e
    if card is not None:
        found["model_card"] = json.loads(card)
    return found


def _verify_safetensors(path: str) -> None:
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as f:
            length = int.from_bytes(f.read(8), "little")
            if length + 8 > size:
                raise ValueError("its header is cut off")
            header = json.loads(f.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        if 8 + length + max(ends, default=0) != size:
            raise ValueError(f"{8 + length + max(ends, default=0):,} bytes were promised, there are {size:,}")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise BrokenCheckpointError(f"{path!r} is truncated or damaged: {e}") from e


def save_safetensors(
    state_dict: Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    model_card: Mapping[str, Any] | None = None,
) -> None:
    """Write weights, and nothing that could be code, as ``.safetensors``; atomically.

    Args:
        state_dict: names and tensors; tensors that share memory are written apart.
        path: file to write.
        model_card: classes and config, see :func:`detectron2.checkpoint.make_model_card`.

    Raises:
        ImportError: without the package ``safetensors``.
    """
    library = _need_safetensors()
    tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state_dict.items()}
    metadata = {"format": "pt"}
    if model_card is not None:
        metadata["model_card"] = json.dumps(dict(model_card))
    with atomic_write(path, "wb") as f:
        f.write(library.save(tensors, metadata=metadata))
