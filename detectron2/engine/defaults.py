"""Ready-made parts for the usual training programs."""

from __future__ import annotations

from detectron2.utils.reexports import passed_on, publish

from .arguments import default_argument_parser
from .predictor import DefaultPredictor
from .setup import create_ddp_model, default_setup
from .trainer.default import DefaultTrainer
from .trainer.writers import default_writers

__all__ = [
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]

__getattr__ = passed_on(__name__)

publish(__name__, DefaultPredictor, DefaultTrainer, create_ddp_model, default_argument_parser, default_setup)
publish(__name__, default_writers)
