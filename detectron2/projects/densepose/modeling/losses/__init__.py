"""Losses of charts and of surface embeddings."""

from ..registries import DENSEPOSE_LOSS_REGISTRY
from .chart import DensePoseChartLoss
from .chart_with_confidences import DensePoseChartWithConfidenceLoss
from .cse import DensePoseCseLoss

__all__ = [
    "DENSEPOSE_LOSS_REGISTRY",
    "DensePoseChartLoss",
    "DensePoseChartWithConfidenceLoss",
    "DensePoseCseLoss",
]
