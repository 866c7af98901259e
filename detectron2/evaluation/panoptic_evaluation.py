"""Panoptic quality; the code is in ``evaluation/panoptic/``."""

from detectron2.data import MetadataCatalog
from detectron2.utils.reexports import passed_on, publish

from .evaluator import DatasetEvaluator
from .panoptic.evaluator import COCOPanopticEvaluator

__all__ = ["COCOPanopticEvaluator", "DatasetEvaluator", "MetadataCatalog"]

__getattr__ = passed_on(__name__)

publish(__name__, COCOPanopticEvaluator)
