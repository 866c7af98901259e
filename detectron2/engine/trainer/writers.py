"""The writers of the default trainer."""

from __future__ import annotations

import importlib.util
import logging
import os

from detectron2.config.training_options import TrainingOptions
from detectron2.config.types import Config
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    MLflowWriter,
    TensorboardXWriter,
    WandbWriter,
)
from detectron2.utils.file_io import PathManager

from ..run_config import run_config

__all__ = ["default_writers", "writers_from_settings"]

logger = logging.getLogger(__name__)


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Build writers for the console, ``metrics.json`` and, if it is installed, TensorBoard.

    Args:
        output_dir: folder for the files.
        max_iter: number of iterations, to estimate the remaining time.
    """
    PathManager.mkdirs(output_dir)
    writers: list[EventWriter] = [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
    ]
    if importlib.util.find_spec("tensorboard") is not None:
        writers.append(TensorboardXWriter(output_dir))
    else:
        logger.info("No TensorBoard files are written: pip install 'detectron2[tensorboard]' for them.")
    return writers


def writers_from_settings(
    settings: TrainingOptions, cfg: Config, base: list[EventWriter]
) -> list[EventWriter]:
    """Add the experiment trackers that a config enables, and drop TensorBoard if it is disabled.

    Trackers come before TensorBoard, which clears the images after writing them.
    """
    chosen: list[EventWriter] = []
    if settings.wandb:
        chosen.append(WandbWriter(settings.wandb_project, run_config(cfg).as_dict(), dir=settings.output_dir))
    if settings.mlflow:
        chosen.append(
            MLflowWriter(
                settings.mlflow_experiment, settings.mlflow_uri or None, config=run_config(cfg).as_dict()
            )
        )
    kept = [w for w in base if settings.tensorboard or not isinstance(w, TensorboardXWriter)]
    plain = [w for w in kept if not isinstance(w, TensorboardXWriter)]
    return [*plain, *chosen, *(w for w in kept if isinstance(w, TensorboardXWriter))]
