"""What was recorded about the modern models: configs and state dicts."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

ZOO = Path(__file__).resolve().parents[1] / "parity" / "zoo"


@functools.cache
def configs(kind: str) -> dict[str, Any]:
    """The recorded "yaml", "lazy" or "new_keys"."""
    found: dict[str, Any] = json.loads((ZOO / "modern_configs.json").read_text())[kind]
    return found


@functools.cache
def state_dicts() -> dict[str, dict[str, list[int]]]:
    """Names and shapes for each config."""
    groups = json.loads(gzip.decompress((ZOO / "modern_state_dicts.json.gz").read_bytes()))
    return {path: dict(group["state_dict"]) for group in groups for path in group["configs"]}


def tree(node: Any) -> Any:
    """A Python config in the form of the records."""
    return _plain(OmegaConf.to_container(node, resolve=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        target = value.get("_target_")
        name = str(getattr(target, "__name__", target)).rpartition(".")[2]
        if name == "pattern_factors" and value["rules"] == [["backbone", 0.1]]:
            return "(name -> 0.1 if 'backbone' in name else 1)"
        if set(value) - {"_target_"} == {"channels", "height", "width", "stride"}:
            return {"_shape": {k: v for k, v in value.items() if k != "_target_" and v is not None}}
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, functools.partial):
        if "get_fed_loss_cls_weights" in str(value.func):
            return "(function of the config file)"
        return {"_partial": _plain(value.func), "kwargs": _plain(value.keywords)}
    if callable(value):
        return f"<{value.__module__}.{value.__qualname__}>"
    return value


def differences(got: Any, want: Any, place: str = "") -> list[str]:
    """Places where a tree differs from the recorded one; of names, those within this package may have moved."""
    if isinstance(want, dict) and isinstance(got, dict):
        odd = [f"{place}.{key}" for key in set(got) ^ set(want)]
        return odd + [d for k in set(got) & set(want) for d in differences(got[k], want[k], f"{place}.{k}")]
    if isinstance(want, list) and isinstance(got, list) and len(got) == len(want):
        return [d for i, w in enumerate(want) for d in differences(got[i], w, f"{place}[{i}]")]
    if isinstance(want, str) and want.startswith("<") and isinstance(got, str):
        return [] if got.rpartition(".")[2] == want.rpartition(".")[2] else [f"{place}: {got} for {want}"]
    return [] if got == want else [f"{place}: {got!r} for {want!r}"]
