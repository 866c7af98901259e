"""Pages that explain a run: training, evaluation and comparison, each one HTML file that works offline."""

from ._comparison import write_comparison_page
from ._data import write_data_page
from ._explain import explain_predictions
from ._training import write_training_report

__all__ = ["explain_predictions", "write_comparison_page", "write_data_page", "write_training_report"]
