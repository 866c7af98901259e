"""Pages that explain a run: training, evaluation and comparison, each one HTML file that works offline."""

from ._explain import explain_predictions
from ._training import write_training_report

__all__ = ["explain_predictions", "write_training_report"]
