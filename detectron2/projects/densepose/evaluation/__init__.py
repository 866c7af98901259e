"""Evaluation of DensePose: geodesic point similarity of predicted surfaces."""

from .evaluator import DensePoseCOCOEvaluator

__all__ = ["DensePoseCOCOEvaluator"]
