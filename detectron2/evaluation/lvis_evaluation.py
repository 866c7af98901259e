"""LVIS metrics of boxes and masks; the code is in ``evaluation/lvis/``."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, BoxMode, pairwise_iou
from detectron2.utils.logger import create_small_table
from detectron2.utils.reexports import passed_on, publish

from .coco.detections import instances_to_coco_json
from .evaluator import DatasetEvaluator
from .lvis.evaluator import LVISEvaluator

__all__ = [
    "BoxMode",
    "Boxes",
    "CfgNode",
    "DatasetEvaluator",
    "LVISEvaluator",
    "MetadataCatalog",
    "create_small_table",
    "instances_to_coco_json",
    "pairwise_iou",
]

__getattr__ = passed_on(__name__)

publish(__name__, LVISEvaluator)
