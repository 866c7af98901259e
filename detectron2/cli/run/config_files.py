"""Reading, writing and changing a config of either kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from detectron2.config import CfgNode, LazyConfig
from detectron2.config.bridge import load_any, render
from detectron2.engine.run_config.settings import FIELDS, is_lazy
from detectron2.utils.atomic import atomic_write

__all__ = ["load_config", "override", "put", "save_config"]


def load_config(path: str | Path, opts: Sequence[str] = ()) -> Any:
    """Read a config file of either kind and apply overrides: `KEY VALUE` pairs, or `key=value` for a Python config."""
    return load_any(str(path), list(opts))


def save_config(cfg: Any, path: Path) -> None:
    """Write a resolved config as YAML, in one step."""
    if is_lazy(cfg):
        LazyConfig.save(cfg, str(path))
        return
    with atomic_write(path) as f:
        f.write(render(cfg))


def put(cfg: Any, **values: Any) -> None:
    """Set training options by their names in `engine._settings.FIELDS`, which both kinds of configs share."""
    for name, value in values.items():
        old, new = FIELDS[name]
        if is_lazy(cfg):
            OmegaConf.update(cfg, new, value, force_add=True)
            continue
        *parents, last = old.split(".")
        node = cfg
        for part in parents:
            node = node[part]
        node[last] = value


def override(cfg: Any, opts: Sequence[str]) -> Any:
    """Apply the overrides of a command line."""
    if isinstance(cfg, CfgNode):
        cfg.merge_from_list(list(opts))
        return cfg
    return LazyConfig.apply_overrides(cfg, list(opts))
