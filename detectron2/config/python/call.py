"""Describe a call in a config instead of executing it."""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .targets import remember_name, target_name

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["LazyCall", "lists_for_tuples"]


class LazyCall:
    """Describes a call that ``instantiate`` executes later.

    ``LazyCall(f)(a=1)`` is the config ``{"_target_": f, "a": 1}``; see :func:`detectron2.config.instantiate`.

    Args:
        target: a callable, its dotted path, or a config that describes a call returning a callable.

    Raises:
        TypeError: if it is none of these.

    Example::

        from detectron2.config import LazyCall as L

        layer = L(torch.nn.Conv2d)(in_channels=32, out_channels=32, kernel_size=1)
        layer.out_channels = 64  # still a config
    """

    def __init__(self, target: object) -> None:
        if not (callable(target) or isinstance(target, (str, Mapping))):
            raise TypeError(f"LazyCall needs a callable or its dotted path, got {target!r}")
        self._target = remember_name(target) if isinstance(target, str) else target

    def __call__(self, **kwargs: object) -> "DictConfig":
        from omegaconf import DictConfig

        content: dict[Any, Any] = {**lists_for_tuples(kwargs), "_target_": _storable(self._target)}
        return DictConfig(content, flags={"allow_objects": True})


def _storable(target: object) -> object:
    """Wrap targets that omegaconf would interpret as the schema of a node; return others unchanged."""
    is_schema = dataclasses.is_dataclass(target) or hasattr(target, "__attrs_attrs__")
    if not isinstance(target, type) or not (is_schema or target in (dict, OrderedDict)):
        return target
    local = "<locals>" in target.__qualname__  # cannot be found by a dotted path
    return functools.partial(target) if local else remember_name(target_name(target))


def lists_for_tuples(value: Any) -> Any:
    """Replace the tuples in plain containers by lists.

    Since version 2.4, omegaconf stores tuples as immutable nodes, whose entries cannot be overridden and which convert
    assigned lists to tuples. Lists behave the same in all versions.
    """
    if type(value) in (list, tuple):
        return [lists_for_tuples(v) for v in value]
    if type(value) is dict:
        return {k: lists_for_tuples(v) for k, v in value.items()}
    return value
