"""Types of unannotated datasets for bootstrapping."""

from enum import Enum

__all__ = ["DatasetType"]


class DatasetType(Enum):
    """Type of a dataset, ``dataset_type`` in its metadata."""

    VIDEO_LIST = "video_list"
    """a text file that lists one video per line"""
