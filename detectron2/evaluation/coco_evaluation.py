"""COCO metrics of boxes, masks, keypoints and proposals; the code is in ``evaluation/coco/``."""

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.structures import Boxes, BoxMode, pairwise_iou
from detectron2.utils.logger import create_small_table
from detectron2.utils.reexports import passed_on, publish

from .coco.detections import instances_to_coco_json
from .coco.evaluator import COCOEvaluator
from .coco.legacy import COCOevalMaxDets
from .coco.legacy import evaluate_predictions_on_coco as _evaluate_predictions_on_coco
from .evaluator import DatasetEvaluator
from .fast_eval_api import COCOeval_opt

__all__ = [
    "BoxMode",
    "Boxes",
    "COCOEvaluator",
    "COCOevalMaxDets",
    "COCOeval_opt",
    "CfgNode",
    "DatasetEvaluator",
    "MetadataCatalog",
    "_evaluate_predictions_on_coco",
    "convert_to_coco_json",
    "create_small_table",
    "instances_to_coco_json",
    "pairwise_iou",
]

__getattr__ = passed_on(__name__)

publish(__name__, COCOEvaluator, COCOevalMaxDets)
