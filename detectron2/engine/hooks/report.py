"""The page that shows a training while it runs."""

from __future__ import annotations

from detectron2.reports import write_training_report
from detectron2.utils import comm

from ..train_loop import HookBase

__all__ = ["ReportWriter"]


class ReportWriter(HookBase):
    """Writes the training's report every so many iterations and at the end, on the main process.

    Belongs last: it shows what the other hooks and writers have left in the output folder.

    Args:
        period: iterations between two reports; 0 writes one at the end only.
        output_dir: folder of the training; the trainer's own by default.
    """

    def __init__(self, period: int, output_dir: str | None = None) -> None:
        self._period = period
        self._output_dir = output_dir

    def _write(self) -> None:
        if not comm.is_main_process():
            return
        folder = self._output_dir
        if folder is None:
            folder = self.trainer.checkpointer.save_dir  # type: ignore[attr-defined]
        write_training_report(folder)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._write()

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._write()
