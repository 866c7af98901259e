"""Cityscapes' figures for instances and semantic labels; the code is in ``evaluation/cityscapes/``."""

from detectron2.data import MetadataCatalog
from detectron2.utils.publish import publish

from .cityscapes.evaluator import CityscapesEvaluator, CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from .evaluator import DatasetEvaluator

__all__ = [
    "CityscapesEvaluator",
    "CityscapesInstanceEvaluator",
    "CityscapesSemSegEvaluator",
    "DatasetEvaluator",
    "MetadataCatalog",
]

publish(__name__, CityscapesEvaluator, CityscapesInstanceEvaluator, CityscapesSemSegEvaluator)
