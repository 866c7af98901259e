"""Annotations sampled from predictions, for training on a model's own output."""

from .densepose_confidence_based import DensePoseConfidenceBasedSampler
from .densepose_cse_confidence_based import DensePoseCSEConfidenceBasedSampler
from .densepose_cse_uniform import DensePoseCSEUniformSampler
from .densepose_uniform import DensePoseUniformSampler
from .mask_from_densepose import MaskFromDensePoseSampler
from .prediction_to_gt import PredictionToGroundTruthSampler

__all__ = [
    "DensePoseCSEConfidenceBasedSampler",
    "DensePoseCSEUniformSampler",
    "DensePoseConfidenceBasedSampler",
    "DensePoseUniformSampler",
    "MaskFromDensePoseSampler",
    "PredictionToGroundTruthSampler",
]
