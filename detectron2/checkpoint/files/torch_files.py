"""Files of ``torch.save`` and pickles of arrays, read without running code and written atomically.

PyTorch writes a zip archive with a CRC-32 of each record and a table of contents at the end. A truncated file lacks the
table; a damaged one has a record that does not match its checksum.
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.file_io.safe_pickle import restricted_load, restricted_torch_load

from ..errors import BrokenCheckpointError, UnsafeCheckpointError

__all__ = ["file_size", "naming_damage", "read_pickle", "read_torch", "verify_torch", "write_checkpoint_file"]


def read_pickle(path: str) -> Any:
    """Read a pickle of arrays and plain containers."""
    with naming_damage(path), open(path, "rb") as f:
        return restricted_load(f, where=repr(path))


def read_torch(path: str, mmap: bool = False) -> Any:
    """Read a file of ``torch.save``; ``mmap`` leaves tensors on disk until they are used."""
    zipped = _is_zip(path)
    if not zipped and _starts_like_zip(path):
        raise BrokenCheckpointError(_truncated(path))
    with naming_damage(path):
        return restricted_torch_load(path, mmap=mmap and zipped)


@contextmanager
def naming_damage(path: str) -> Iterator[None]:
    """Convert any error of reading a damaged or malicious file to one that names the file.

    Raises:
        UnsafeCheckpointError: if reading the file would run code.
        BrokenCheckpointError: for everything else.
    """
    try:
        yield
    except Exception as e:
        text = str(e)
        if isinstance(e, (UnsafeCheckpointError, BrokenCheckpointError)) and path in text:
            raise
        if isinstance(e, UnsafeCheckpointError):
            raise UnsafeCheckpointError(f"{path!r}: {text}") from e
        if "Unsupported global" in text or "Unsupported class" in text or "GLOBAL" in text:
            raise UnsafeCheckpointError(
                f"{path!r} contains more than tensors, arrays and plain containers, and reading it could run code; it "
                f"was not read. PyTorch says: {_first_line(text)} If you trust the file, read it once with "
                "torch.load(weights_only=False) and save {'model': state_dict} again."
            ) from e
        reason = _first_line(text) or type(e).__name__
        if isinstance(e, LookupError):  # whose text is only the key that was looked for
            reason = f"its content is damaged ({type(e).__name__}: {reason})"
        raise BrokenCheckpointError(f"{path!r} cannot be read ({file_size(path)}): {reason}") from e


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wanted = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    return (wanted or lines or [""])[0][:300]


def file_size(path: str) -> str:
    """Format the size of a file."""
    return f"{os.path.getsize(path):,} bytes"


def _truncated(path: str) -> str:
    return f"{path!r} is truncated: it begins like a PyTorch file, but its table of contents is missing ({file_size(path)})"


def _is_zip(path: str) -> bool:
    with naming_damage(path):
        return zipfile.is_zipfile(path)


def _starts_like_zip(path: str) -> bool:
    with open(path, "rb") as f:
        return f.read(4) == b"PK\x03\x04"


def verify_torch(path: str) -> None:
    """Check a file of ``torch.save``: a zip archive by its checksums, an older file by reading it."""
    if _is_zip(path):
        try:
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
        except Exception as e:  # any class, such as for an unknown compression or a password
            raise BrokenCheckpointError(f"{path!r} is damaged: {str(e) or type(e).__name__}") from e
        if bad is not None:
            raise BrokenCheckpointError(
                f"{path!r} is damaged: the checksum of its record {bad!r} does not match"
            )
    elif _starts_like_zip(path):
        raise BrokenCheckpointError(_truncated(path))
    else:
        read_torch(path)


def write_checkpoint_file(data: object, path: str | os.PathLike[str]) -> None:
    """Write ``data`` with ``torch.save`` so that a crash leaves either the old file or the new one.

    Raises:
        OSError: if it cannot be written, for example because the disk is full; an existing file is intact.
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
