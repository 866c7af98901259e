"""Panoptic quality; the code is in ``evaluation/panoptic/``."""

from detectron2.data import MetadataCatalog
from detectron2.utils.publish import publish

from .evaluator import DatasetEvaluator
from .panoptic.evaluator import COCOPanopticEvaluator

__all__ = ["COCOPanopticEvaluator", "DatasetEvaluator", "MetadataCatalog"]

publish(__name__, COCOPanopticEvaluator)
