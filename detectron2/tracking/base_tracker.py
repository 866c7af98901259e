"""The contract of a tracker, and the registry of trackers."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode as CfgNode_
from detectron2.config import configurable
from detectron2.structures import Instances
from detectron2.utils.registry import Registry

__all__ = [
    "TRACKER_HEADS_REGISTRY",
    "BaseTracker",
    "CfgNode_",
    "Instances",
    "build_tracker_head",
    "configurable",
]

TRACKER_HEADS_REGISTRY = Registry("TRACKER_HEADS")
"""Trackers by name; each is built from a config by its ``from_config``."""


class BaseTracker:
    """Gives the instances of successive frames identities that last."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        """
        Args:
            **kwargs: what subclasses take.
        """
        self._prev_instances: Instances | None = None
        self._id_count = 0

    @classmethod
    def from_config(cls, cfg: CfgNode_) -> dict[str, Any]:
        """Constructor arguments from a config.

        Args:
            cfg: a config with ``TRACKER_HEADS``.
        """
        raise NotImplementedError(f"{cls.__name__} cannot be built from a config: it lacks from_config")

    def update(self, predictions: Instances) -> Instances:
        """Take in the next frame.

        Args:
            predictions: the frame's instances.

        Returns:
            Instances with identities.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement update()")


def build_tracker_head(cfg: CfgNode_) -> BaseTracker:
    """Return the tracker that a config names.

    Args:
        cfg: its ``TRACKER_HEADS.TRACKER_NAME`` is a name in ``TRACKER_HEADS_REGISTRY``.
    """
    return TRACKER_HEADS_REGISTRY.get(cfg.TRACKER_HEADS.TRACKER_NAME)(cfg)
