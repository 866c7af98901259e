"""Write files so that readers see either the old file or the new one, also after a crash."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["atomic_write", "write_json"]


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: str = "w", *, encoding: str | None = None
) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` and rename it to ``path`` when the block ends without an error.

    The file is flushed to disk before it is renamed, so that a power cut leaves the old or the new content. After
    an error the temporary file is removed and ``path`` is as it was. Missing folders are made. The permissions of
    a file that exists already are kept.

    Args:
        path: file to write.
        mode: ``"w"`` for text (UTF-8 unless ``encoding`` says otherwise) or ``"wb"`` for bytes.
        encoding: text encoding.

    Yields:
        The open temporary file; its ``name`` is a path in the folder of ``path``.

    Raises:
        ValueError: if ``mode`` is neither ``"w"`` nor ``"wb"``.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"atomic_write writes whole files: mode must be 'w' or 'wb', not {mode!r}")
    target = os.path.realpath(os.fspath(path))  # a link stays a link; what it points to is replaced
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{os.path.basename(target)[:100]}.", suffix=".tmp", dir=folder
    )
    try:
        text = {"encoding": encoding or "utf-8"} if mode == "w" else {}
        with os.fdopen(descriptor, mode, **text) as f:  # type: ignore[call-overload]
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, _permissions(target))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _permissions(path: str) -> int:
    """Return the mode bits that a plain ``open(path, "w")`` would set."""
    try:
        return os.stat(path).st_mode & 0o7777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write JSON in one step: a reader sees either the old file or the complete new one."""
    with atomic_write(path) as f:
        json.dump(value, f, indent=2)
        f.write("\n")
