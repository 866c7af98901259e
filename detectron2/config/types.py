"""The type of a config of either kind."""

from __future__ import annotations

from typing import TypeAlias

from omegaconf import DictConfig

from .config import CfgNode

__all__ = ["Config"]

Config: TypeAlias = CfgNode | DictConfig
"""A yacs config, or a Python config as an omegaconf dictionary."""
