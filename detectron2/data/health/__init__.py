"""Checking data before the first step: what is wrong, where, and how to mend it.

``check_coco_json`` checks an annotation file as it is, ``check_dataset_dicts`` records from anywhere. Both give a
:class:`HealthReport`. Errors forbid training; the rest may be left out by :func:`repair`.
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
