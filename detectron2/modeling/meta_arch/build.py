"""Building a whole model from a config."""

from __future__ import annotations

import torch
from torch import nn

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

__all__ = ["META_ARCH_REGISTRY", "build_model"]

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = """
Whole models. An entry is called with ``(cfg)`` and gives a module whose input is a list of dicts; see
docs/models.md for the formats.
"""


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the registered model that ``MODEL.META_ARCHITECTURE`` names, on ``MODEL.DEVICE``, with random weights.

    Weights are loaded by :class:`detectron2.checkpoint.DetectionCheckpointer`.

    Raises:
        KeyError: if no such model is registered.
        RuntimeError: if the device is not there.
    """
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, but torch sees no CUDA device; set MODEL.DEVICE to 'cpu'"
        )
    return model.to(device)
