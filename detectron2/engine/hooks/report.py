"""Writing the training report during training."""

from __future__ import annotations

import logging
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.reports import draw_training_batch, write_training_report
from detectron2.utils import comm

from ..run_config import run_config
from .periodic import PeriodicHook

__all__ = ["ReportWriter"]

logger = logging.getLogger("detectron2.engine.hooks")


class ReportWriter(PeriodicHook):
    """Writes the training report every few iterations and at the end, on the main process.

    After the first iteration it draws the images of the batch as the model got them, for the report. Register it last:
    the report shows the files that other hooks and writers have written.

    Args:
        period: iterations between two reports; 0 writes one only at the end.
        output_dir: output folder of the run; None uses that of the trainer's checkpointer.
    """

    def __init__(self, period: int, output_dir: str | None = None) -> None:
        super().__init__(period)
        self._output_dir = output_dir

    def after_step(self) -> None:
        if self.trainer.iter == 0 and comm.is_main_process():
            self._draw_batch()
        super().after_step()

    def run(self) -> None:
        if comm.is_main_process():
            write_training_report(self._folder)

    @property
    def _folder(self) -> Path:
        folder = self._output_dir
        return Path(self.trainer.checkpointer.save_dir if folder is None else folder)  # type: ignore[attr-defined]

    def _draw_batch(self) -> None:
        batch, cfg = getattr(self.trainer.loop, "batch", None), getattr(self.trainer, "cfg", None)
        if cfg is None or not isinstance(batch, list):
            return
        try:
            run = run_config(cfg)
            metadata = MetadataCatalog.get(run.dataset_names("train")[0])
            draw_training_batch(batch, metadata, run.input_format, self._folder)
        except Exception:  # a picture must not end a training: batches of own mappers may hold anything
            logger.warning("The training batch could not be drawn for the report.", exc_info=True)
