"""Files in the ``safetensors`` format: weights, and nothing that could be code."""

import json
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch

from detectron2.utils.file_io.atomic import atomic_write

from ..errors import BrokenCheckpointError
from .torch_files import naming_damage

__all__ = ["read_safetensors", "save_safetensors", "verify_safetensors"]


def _need_safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as e:
        raise ImportError(
            ".safetensors files need an additional package: pip install 'detectron2[safetensors]'"
        ) from e
    return safetensors.torch


def read_safetensors(path: str) -> dict[str, Any]:
    """Read ``{"model": tensors}``, and ``"model_card"`` if the file has one."""
    _need_safetensors()
    from safetensors import safe_open

    with naming_damage(path):
        with safe_open(path, framework="pt", device="cpu") as f:
            found: dict[str, Any] = {"model": {key: f.get_tensor(key) for key in f.keys()}}
            card = (f.metadata() or {}).get("model_card")
        if card is not None:
            found["model_card"] = json.loads(card)
        return found


def verify_safetensors(path: str) -> None:
    """Compare the length of a file with the length in its header."""
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as f:
            length = int.from_bytes(f.read(8), "little")
            if length + 8 > size:
                raise ValueError("its header is truncated")
            header = json.loads(f.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        if 8 + length + max(ends, default=0) != size:
            raise ValueError(f"it must have {8 + length + max(ends, default=0):,} bytes, but has {size:,}")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise BrokenCheckpointError(f"{path!r} is truncated or damaged: {e}") from e


def save_safetensors(
    state_dict: Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    model_card: Mapping[str, Any] | None = None,
) -> None:
    """Write weights, and nothing that could be code, as ``.safetensors``; atomically.

    Args:
        state_dict: names and tensors; tensors that share memory are written separately.
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
