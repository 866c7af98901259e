"""Layers and arithmetic of predicted confidences, for charts and embeddings."""

import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode

from .upsampling import upsampling_layer

__all__ = ["add_confidence_layers", "segm_confidence"]


def add_confidence_layers(
    module: nn.Module, cfg: CfgNode, input_channels: int, channels: dict[str, int]
) -> None:
    """Add one layer ``<name>_lowres`` per confidence.

    Args:
        module: predictor to add them to.
        cfg: the whole config.
        input_channels: channels of the features.
        channels: output channels by name.
    """
    for name, number in channels.items():
        module.add_module(f"{name}_lowres", upsampling_layer(cfg, input_channels, number))


def segm_confidence(logits: Tensor, epsilon: float) -> Tensor:
    """Convert the output of a layer to a confidence, which multiplies segmentation logits.

    Args:
        logits: any shape.
        epsilon: smallest confidence.
    """
    return F.softplus(logits) + epsilon
