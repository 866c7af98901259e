"""Predictions for pictures, videos and cameras, by a model of any kind."""

from .predictor import Prediction, PredictionStream, Predictor

__all__ = ["Prediction", "PredictionStream", "Predictor"]
