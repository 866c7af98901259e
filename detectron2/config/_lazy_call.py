"""Describing a call in a config instead of making it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ._targets import target_name

__all__ = ["LazyCall"]


class LazyCall:
    """Write a call now, have it made later by ``instantiate``.

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

    def __init__(self, target: Any) -> None:
        if not (callable(target) or isinstance(target, (str, Mapping))):
            raise TypeError(f"LazyCall needs a callable or its dotted path, got {target!r}")
        self._target = target

    def __call__(self, **kwargs: Any) -> Any:
        from omegaconf import DictConfig

        target = self._target
        # omegaconf would take a dataclass for the schema of a node.
        if isinstance(target, type) and dataclasses.is_dataclass(target):
            target = target_name(target)
        return DictConfig(content={**kwargs, "_target_": target}, flags={"allow_objects": True})
