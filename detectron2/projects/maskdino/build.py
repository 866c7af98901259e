"""Decoders by their names in configs."""

from torch import nn

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

__all__ = ["TRANSFORMER_DECODER_REGISTRY", "build_transformer_decoder"]

TRANSFORMER_DECODER_REGISTRY = Registry("TRANSFORMER_MODULE")
TRANSFORMER_DECODER_REGISTRY.__doc__ = """
Modules that turn pixel features into queries with a class, a box and a mask. An entry is called with
``(cfg, in_channels, mask_classification)``.
"""


def build_transformer_decoder(cfg: CfgNode, in_channels: int, mask_classification: bool = True) -> nn.Module:
    """Build the decoder that ``MODEL.MaskDINO.TRANSFORMER_DECODER_NAME`` names.

    Args:
        cfg: config with the keys of :func:`.add_maskdino_config`.
        in_channels: channels of the levels it sees.
        mask_classification: predict a class for each mask.
    """
    name = cfg.MODEL.MaskDINO.TRANSFORMER_DECODER_NAME
    return TRANSFORMER_DECODER_REGISTRY.get(name)(cfg, in_channels, mask_classification)
