"""Small file operations of the checkpointers."""

import os
import re
import shutil

from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.atomic import atomic_write

__all__ = ["is_local", "remove_leftovers", "write_text"]

_LEFTOVER = re.compile(r"^\.(?:.*\.(?:pth|safetensors|shards)|last_checkpoint)\..*\.tmp$")


def is_local(path: str) -> bool:
    """Return whether ``path`` is on this machine, so that it can be written and renamed."""
    return "://" not in path


def write_text(path: str, text: str) -> None:
    """Write a small text file, atomically if it is local."""
    if is_local(path):
        with atomic_write(path) as f:
            f.write(text)
    else:
        with PathManager.open(path, "w") as f:
            f.write(text)


def remove_leftovers(folder: str) -> None:
    """Remove partial checkpoints of a process that was killed while saving."""
    for name in os.listdir(folder):
        if _LEFTOVER.match(name):
            path = os.path.join(folder, name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
