"""The registry of whole models."""

from __future__ import annotations

from torch import nn

from detectron2.config import CfgNode
from detectron2.utils.device import check_device
from detectron2.utils.errors import BadValue
from detectron2.utils.registry import Registry

__all__ = ["META_ARCH_REGISTRY", "build_model"]

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = """
Whole models. An entry is called with ``(cfg)`` and returns a module whose input is a list of dicts; docs/models.md
describes the formats.
"""


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the registered model ``MODEL.META_ARCHITECTURE`` on ``MODEL.DEVICE``, with random weights.

    :class:`detectron2.checkpoint.DetectionCheckpointer` loads trained weights.

    Raises:
        KeyError: if no such model is registered.
        ValueError: if it lacks the form with fixed shapes that ``MODEL.FIXED_SHAPES`` asks for.
        DeviceError: if the device is not available.
    """
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    if cfg.MODEL.FIXED_SHAPES and not getattr(model, "fixed_shapes", False):
        raise BadValue(
            f"{type(model).__name__} has no form with fixed shapes; set MODEL.FIXED_SHAPES = False"
        )
    if cfg.INPUT.FIXED_SIZE:
        model.fixed_sizes = cfg.INPUT.FIXED_SIZE
    device = check_device(cfg.MODEL.DEVICE, "MODEL.DEVICE")
    return model.to(device)
