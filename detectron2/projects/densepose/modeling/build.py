"""Build the parts of a DensePose model from a config."""

from typing import Any

from torch import nn

from detectron2.config import CfgNode

from .cse.embedder import Embedder
from .filter import DensePoseDataFilter
from .registries import (
    DENSEPOSE_LOSS_REGISTRY,
    DENSEPOSE_PREDICTOR_REGISTRY,
    ROI_DENSEPOSE_HEAD_REGISTRY,
)

__all__ = [
    "build_densepose_data_filter",
    "build_densepose_embedder",
    "build_densepose_head",
    "build_densepose_losses",
    "build_densepose_predictor",
]


def build_densepose_predictor(cfg: CfgNode, input_channels: int) -> nn.Module:
    """Build the predictor named by ``MODEL.ROI_DENSEPOSE_HEAD.PREDICTOR_NAME``.

    Args:
        cfg: the whole config.
        input_channels: channels of the features.
    """
    name = cfg.MODEL.ROI_DENSEPOSE_HEAD.PREDICTOR_NAME
    return DENSEPOSE_PREDICTOR_REGISTRY.get(name)(cfg, input_channels)


def build_densepose_data_filter(cfg: CfgNode) -> DensePoseDataFilter:
    """Build the filter of training proposals.

    Args:
        cfg: the whole config.
    """
    return DensePoseDataFilter(cfg)


def build_densepose_head(cfg: CfgNode, input_channels: int) -> Any:
    """Build the head named by ``MODEL.ROI_DENSEPOSE_HEAD.NAME``.

    Args:
        cfg: the whole config.
        input_channels: channels of the features.
    """
    return ROI_DENSEPOSE_HEAD_REGISTRY.get(cfg.MODEL.ROI_DENSEPOSE_HEAD.NAME)(cfg, input_channels)


def build_densepose_losses(cfg: CfgNode) -> Any:
    """Build the losses named by ``MODEL.ROI_DENSEPOSE_HEAD.LOSS_NAME``.

    Args:
        cfg: the whole config.
    """
    return DENSEPOSE_LOSS_REGISTRY.get(cfg.MODEL.ROI_DENSEPOSE_HEAD.LOSS_NAME)(cfg)


def build_densepose_embedder(cfg: CfgNode) -> Embedder | None:
    """Build the embedder of mesh vertices; None for chart models.

    Args:
        cfg: the whole config.
    """
    return Embedder(cfg) if cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS else None
