"""Reports on training, evaluation, data and comparisons: HTML pages that work offline."""

from .comparison import write_comparison_page
from .data import write_data_page
from .explain import explain_predictions
from .pictures import draw_training_batch
from .training import write_training_report

__all__ = [
    "draw_training_batch", "explain_predictions", "write_comparison_page", "write_data_page", "write_training_report",
]  # fmt: skip
