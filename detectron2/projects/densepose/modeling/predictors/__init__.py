"""Predictors: compute charts or surface embeddings from the features of a head."""

from ..registries import DENSEPOSE_PREDICTOR_REGISTRY
from .chart import DensePoseChartPredictor
from .chart_confidence import DensePoseChartConfidencePredictorMixin
from .chart_with_confidence import DensePoseChartWithConfidencePredictor
from .cse import DensePoseEmbeddingPredictor
from .cse_confidence import DensePoseEmbeddingConfidencePredictorMixin
from .cse_with_confidence import DensePoseEmbeddingWithConfidencePredictor

__all__ = [
    "DENSEPOSE_PREDICTOR_REGISTRY",
    "DensePoseChartConfidencePredictorMixin",
    "DensePoseChartPredictor",
    "DensePoseChartWithConfidencePredictor",
    "DensePoseEmbeddingConfidencePredictorMixin",
    "DensePoseEmbeddingPredictor",
    "DensePoseEmbeddingWithConfidencePredictor",
]
