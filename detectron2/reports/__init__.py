"""Pages that explain a run: training, evaluation and comparison, each one HTML file that works offline."""

from ._training import write_training_report

__all__ = ["write_training_report"]
