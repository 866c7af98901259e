"""Writing the training report during training."""

from __future__ import annotations

from detectron2.reports import write_training_report
from detectron2.utils import comm

from .periodic import PeriodicHook

__all__ = ["ReportWriter"]


class ReportWriter(PeriodicHook):
    """Writes the training report every few iterations and at the end, on the main process.

    Register it last: the report shows the files that other hooks and writers have written.

    Args:
        period: iterations between two reports; 0 writes one only at the end.
        output_dir: output folder of the run; None uses that of the trainer's checkpointer.
    """

    def __init__(self, period: int, output_dir: str | None = None) -> None:
        super().__init__(period)
        self._output_dir = output_dir

    def run(self) -> None:
        if not comm.is_main_process():
            return
        folder = self._output_dir
        if folder is None:
            folder = self.trainer.checkpointer.save_dir  # type: ignore[attr-defined]
        write_training_report(folder)
