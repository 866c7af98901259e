"""The interface of trackers, and their registry."""

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
    """Assigns persistent identities to the instances of successive frames."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        self._prev_instances: Instances | None = None
        self._id_count = 0

    @classmethod
    def from_config(cls, cfg: CfgNode_) -> dict[str, Any]:
        """Read the constructor arguments from ``cfg.TRACKER_HEADS``."""
        raise NotImplementedError(f"{cls.__name__} must define from_config() to be built from a config")

    def update(self, predictions: Instances) -> Instances:
        """Assign identities to the instances of the next frame."""
        raise NotImplementedError(f"{type(self).__name__} must implement update()")


def build_tracker_head(cfg: CfgNode_) -> BaseTracker:
    """Build the registered tracker that ``cfg.TRACKER_HEADS.TRACKER_NAME`` names."""
    return TRACKER_HEADS_REGISTRY.get(cfg.TRACKER_HEADS.TRACKER_NAME)(cfg)
