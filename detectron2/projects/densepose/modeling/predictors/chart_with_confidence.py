"""Predictor of charts with confidences."""

from ..registries import DENSEPOSE_PREDICTOR_REGISTRY
from .chart import DensePoseChartPredictor
from .chart_confidence import DensePoseChartConfidencePredictorMixin

__all__ = ["DensePoseChartWithConfidencePredictor"]


@DENSEPOSE_PREDICTOR_REGISTRY.register()
class DensePoseChartWithConfidencePredictor(DensePoseChartConfidencePredictorMixin, DensePoseChartPredictor):
    """Predicts charts, coordinates in them, and the confidences that the config enables."""
