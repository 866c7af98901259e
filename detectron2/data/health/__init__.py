"""Check data before training: what is wrong, where, and how to fix it.

``check_coco_json`` checks an annotation file, ``check_dataset_dicts`` records of any origin. Both return a
:class:`HealthReport`. Errors prevent training; :func:`repair` leaves out what is marked as skip.
"""

from .check import check_dataset_dicts, find_duplicates, find_leakage, repair
from .coco import check_coco_json
from .report import KINDS, DataError, Finding, HealthReport
from .statistics import dataset_statistics

__all__ = [
    "KINDS",
    "DataError",
    "Finding",
    "HealthReport",
    "check_coco_json",
    "check_dataset_dicts",
    "dataset_statistics",
    "find_duplicates",
    "find_leakage",
    "repair",
]
