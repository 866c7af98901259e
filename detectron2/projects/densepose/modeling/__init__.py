"""DensePose models."""

from .build import (
    build_densepose_data_filter,
    build_densepose_embedder,
    build_densepose_head,
    build_densepose_losses,
    build_densepose_predictor,
)
from .confidence import DensePoseConfidenceModelConfig, DensePoseUVConfidenceType
from .filter import DensePoseDataFilter
from .inference import densepose_inference
from .losses import DENSEPOSE_LOSS_REGISTRY
from .predictors import DENSEPOSE_PREDICTOR_REGISTRY
from .roi_heads import ROI_DENSEPOSE_HEAD_REGISTRY
from .utils import initialize_module_params

__all__ = [
    "DENSEPOSE_LOSS_REGISTRY",
    "DENSEPOSE_PREDICTOR_REGISTRY",
    "ROI_DENSEPOSE_HEAD_REGISTRY",
    "DensePoseConfidenceModelConfig",
    "DensePoseDataFilter",
    "DensePoseUVConfidenceType",
    "build_densepose_data_filter",
    "build_densepose_embedder",
    "build_densepose_head",
    "build_densepose_losses",
    "build_densepose_predictor",
    "densepose_inference",
    "initialize_module_params",
]
