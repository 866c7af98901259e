"""The yacs-style config: :class:`CfgNode`, its defaults, and the decorator for classes built from it."""

from detectron2.utils.reexports import publish

from .defaults import _C
from .from_config import configurable
from .yacs.config_node import CfgNode

__all__ = ["CfgNode", "configurable", "get_cfg", "global_cfg", "set_global_cfg"]

publish(__name__, CfgNode)

global_cfg = CfgNode()


def get_cfg() -> CfgNode:
    """Return a new copy of the default config."""
    return _C.clone()


def set_global_cfg(cfg: CfgNode) -> None:
    """Make ``detectron2.config.global_cfg`` equal to ``cfg``.

    For code that cannot receive a config; other code should take its settings as arguments.
    """
    global_cfg.clear()
    global_cfg.update(dict.items(cfg))
