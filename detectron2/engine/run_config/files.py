"""Flattening and comparing configs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from omegaconf import OmegaConf, SCMode

from detectron2.config.python.targets import target_name
from detectron2.config.types import Config
from detectron2.utils.errors import BadType

__all__ = ["Change", "diff", "flatten"]


class Change(NamedTuple):
    """One difference between two configs; ``MISSING`` stands for a missing key."""

    key: str
    left: object
    right: object


class _Missing:
    def __repr__(self) -> str:
        return "(not there)"


MISSING = _Missing()


def flatten(cfg: Config) -> dict[str, Any]:
    """Flatten a config to a dict from dotted keys to values.

    Calls and lists of calls are flattened too; other lists are values. Interpolations are resolved.
    """
    content: object = cfg
    if OmegaConf.is_config(cfg):
        content = OmegaConf.to_container(cfg, resolve=True, structured_config_mode=SCMode.DICT)
    return dict(_leaves(content, ""))


def _leaves(value: object, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not place):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(v, Mapping) for v in value):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{place}.{i}")
    elif place.endswith("_target_"):
        yield place, target_name(value)
    else:
        yield place, value


def diff(left: Config, right: Config) -> list[Change]:
    """List the differences between two configs of the same kind, sorted by key.

    Lists and tuples of the same values are equal.

    Raises:
        TypeError: if the configs are of different kinds.
    """
    if OmegaConf.is_config(left) != OmegaConf.is_config(right):
        raise BadType("one config is yacs-style, the other a Python config: they have no keys in common")
    a, b = flatten(left), flatten(right)
    pairs = ((key, a.get(key, MISSING), b.get(key, MISSING)) for key in sorted({*a, *b}))
    return [Change(key, x, y) for key, x, y in pairs if not _equal(x, y)]


def _equal(x: object, y: object) -> bool:
    if isinstance(x, (list, tuple)) and isinstance(y, (list, tuple)):
        return len(x) == len(y) and all(_equal(p, q) for p, q in zip(x, y))
    if isinstance(x, bool) or isinstance(y, bool):
        return x is y
    return bool(x == y)
