"""Reading training options from a `CfgNode` or a LazyConfig alike."""

from __future__ import annotations

from typing import Any

from .run_config.settings import FIELDS, Settings, is_lazy, lookup

__all__ = ["FIELDS", "Settings", "is_lazy", "lookup", "weights_of"]


def weights_of(cfg: Any) -> tuple[str, str]:
    """Output folder and initial weights of either kind of config."""
    settings = Settings.from_config(cfg)
    return settings.output_dir, settings.weights
