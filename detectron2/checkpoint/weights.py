"""Check and convert state dicts from files for models."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .errors import BrokenCheckpointError
from .files.shards import is_sharded

__all__ = ["as_tensors", "drop_aliases", "named_weights", "strip_prefix"]


def named_weights(weights: object, source: str = "the checkpoint") -> Mapping[str, Any]:
    """Check that weights are a dict with text keys, and return them.

    Raises:
        BrokenCheckpointError: if they are not.
    """
    if not isinstance(weights, Mapping):
        raise BrokenCheckpointError(
            f"the weights of {source} must be a dict of names and tensors, got {type(weights).__name__}"
        )
    odd = [name for name in weights if not isinstance(name, str)]
    if odd:
        raise BrokenCheckpointError(f"names of weights must be text, {source} has {odd[0]!r}")
    return weights


def as_tensors(weights: object) -> dict[str, torch.Tensor]:
    """Convert arrays to tensors.

    Raises:
        BrokenCheckpointError: if ``weights`` is not a dict, or has a key that is not text or a value that is neither a
            tensor nor an array.
    """
    result = {}
    for name, value in named_weights(weights).items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
        if not isinstance(value, torch.Tensor) and not name.endswith("_extra_state"):
            raise BrokenCheckpointError(
                f"{name!r} in the checkpoint is a {type(value).__name__}; expected a tensor or an array"
            )
        result[name] = value
    return result


def strip_prefix(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove ``module.`` (DDP) and ``_orig_mod.`` (``torch.compile``) if every name begins with it."""
    pattern = re.compile(r"^(?:module|_orig_mod)\.")
    while weights and all(pattern.match(k) for k in weights):
        weights = {pattern.sub("", k): v for k, v in weights.items()}
    return weights


def drop_aliases(missing: list[str], state: Mapping[str, Any], loaded: Mapping[str, Any]) -> list[str]:
    """Drop missing names that are aliases of loaded tensors, as in shared heads."""
    filled = {
        (v.data_ptr(), v.shape)
        for k, v in state.items()
        if k in loaded and isinstance(v, torch.Tensor) and v.numel() > 0 and not (v.is_meta or is_sharded(v))
    }
    return [
        k
        for k in missing
        if not (isinstance(state.get(k), torch.Tensor) and (state[k].data_ptr(), state[k].shape) in filled)
    ]
