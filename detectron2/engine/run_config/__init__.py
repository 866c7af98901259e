"""One interface to both kinds of config; only :func:`run_config` tells them apart."""

from collections.abc import Sequence
from os import PathLike, fspath

from detectron2.config import CfgNode, LazyConfig
from detectron2.config.projects import defaults_for
from detectron2.config.types import Config
from detectron2.config.yacs.yaml_files import load_with_base

from .base import RunConfig
from .lazy import LazyRunConfig
from .yacs import YacsRunConfig

__all__ = ["RunConfig", "load_run_config", "run_config"]


def run_config(cfg: Config) -> RunConfig:
    """Wrap a config of either kind, a ``CfgNode`` or a Python config (omegaconf), without copying it."""
    return YacsRunConfig(cfg) if isinstance(cfg, CfgNode) else LazyRunConfig(cfg)


def load_run_config(path: str | PathLike[str], changes: Sequence[str] = ()) -> RunConfig:
    """Load a config file of either kind and apply changes from a command line.

    Args:
        path: a ``.py`` file, or a ``.yaml`` file: a saved Python config if it has lower-case keys, else yacs-style.
            Configs of projects, from the zoo or saved by a run, may contain the project's keys.
        changes: ``KEY VALUE`` words for a yacs-style config, ``key=value`` words for a Python config.
    """
    name = fspath(path)
    cfg: Config
    content = {} if name.endswith(".py") else load_with_base(name)
    if not name.endswith(".py") and not any(str(key).islower() for key in content):
        cfg = defaults_for(name, content)
        cfg.merge_from_file(name)
    else:
        cfg = LazyConfig.load(name)
    run = run_config(cfg)
    run.override(changes)
    return run
