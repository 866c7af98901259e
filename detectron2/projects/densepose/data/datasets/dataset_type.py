"""Kinds of data sets without annotations, from which images are taken for bootstrapping."""

from enum import Enum

__all__ = ["DatasetType"]


class DatasetType(Enum):
    """Kind of a data set, in its metadata under ``dataset_type``."""

    VIDEO_LIST = "video_list"
    """a text file that lists one video per line"""
