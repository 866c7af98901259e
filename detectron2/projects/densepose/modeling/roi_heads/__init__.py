"""Heads of DensePose R-CNN."""

from ..registries import ROI_DENSEPOSE_HEAD_REGISTRY
from .deeplab import DensePoseDeepLabHead
from .roi_head import Decoder, DensePoseROIHeads
from .v1convx import DensePoseV1ConvXHead

__all__ = [
    "ROI_DENSEPOSE_HEAD_REGISTRY",
    "Decoder",
    "DensePoseDeepLabHead",
    "DensePoseROIHeads",
    "DensePoseV1ConvXHead",
]
