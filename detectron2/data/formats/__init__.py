"""Read and write label formats, as ``detectron2 data import|check|show|stats|convert|split`` does.

``read_dataset`` detects the format of a path and returns records; ``write_dataset`` writes them in another;
``register_dataset`` registers them as a data set; ``split_dataset`` divides them into train, val and test.
"""

from . import coco, cvat, dota, huggingface, labelme, semantic, voc, yolo
from .api import (
    check_dataset,
    convert_dataset,
    detect_format,
    read_dataset,
    read_parts,
    register_dataset,
    split_dataset,
    write_dataset,
)
from .base import FORMATS, Dataset, Format, FormatError, register_format
from .plan import DataPlan, LabelFacts, Source, label_facts, plan_data, plan_training, plan_validation

__all__ = [
    "FORMATS",
    "DataPlan",
    "Dataset",
    "Format",
    "FormatError",
    "LabelFacts",
    "Source",
    "check_dataset",
    "coco",
    "convert_dataset",
    "cvat",
    "detect_format",
    "dota",
    "huggingface",
    "label_facts",
    "labelme",
    "plan_data",
    "plan_training",
    "plan_validation",
    "read_dataset",
    "read_parts",
    "register_dataset",
    "register_format",
    "semantic",
    "split_dataset",
    "voc",
    "write_dataset",
    "yolo",
]
