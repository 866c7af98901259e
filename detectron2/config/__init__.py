"""Configs: the yacs-style tree of keys (:func:`get_cfg`) and Python configs (:class:`LazyConfig`)."""

from .compat import downgrade_config, upgrade_config
from .config import CfgNode, configurable, get_cfg, global_cfg, set_global_cfg
from .instantiate import instantiate
from .lazy import LazyCall, LazyConfig
from .python.targets import UntrustedTargetError, trusted

__all__ = [
    "CfgNode",
    "LazyCall",
    "LazyConfig",
    "UntrustedTargetError",
    "configurable",
    "downgrade_config",
    "get_cfg",
    "global_cfg",
    "instantiate",
    "set_global_cfg",
    "trusted",
    "upgrade_config",
]
