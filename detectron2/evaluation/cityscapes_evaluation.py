"""Cityscapes metrics of instance and semantic segmentation; the code is in ``evaluation/cityscapes/``."""

from detectron2.data import MetadataCatalog
from detectron2.utils.reexports import passed_on, publish

from .cityscapes.evaluator import CityscapesEvaluator, CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from .evaluator import DatasetEvaluator

__all__ = [
    "CityscapesEvaluator",
    "CityscapesInstanceEvaluator",
    "CityscapesSemSegEvaluator",
    "DatasetEvaluator",
    "MetadataCatalog",
]

__getattr__ = passed_on(__name__)

publish(__name__, CityscapesEvaluator, CityscapesInstanceEvaluator, CityscapesSemSegEvaluator)
