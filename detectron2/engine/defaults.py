"""Ready-made parts for the usual training programs."""

from __future__ import annotations

from detectron2.engine._cli import default_argument_parser
from detectron2.engine._predictor import DefaultPredictor
from detectron2.engine._setup import create_ddp_model, default_setup
from detectron2.engine._trainer import DefaultTrainer
from detectron2.engine._writers import default_writers

__all__ = [
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]
