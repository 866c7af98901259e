"""Predictor of surface embeddings with confidence."""

from ..registries import DENSEPOSE_PREDICTOR_REGISTRY
from .cse import DensePoseEmbeddingPredictor
from .cse_confidence import DensePoseEmbeddingConfidencePredictorMixin

__all__ = ["DensePoseEmbeddingWithConfidencePredictor"]


@DENSEPOSE_PREDICTOR_REGISTRY.register()
class DensePoseEmbeddingWithConfidencePredictor(
    DensePoseEmbeddingConfidencePredictorMixin, DensePoseEmbeddingPredictor
):
    """Predicts surface embeddings, and the confidence of their segmentation if the config enables it."""
