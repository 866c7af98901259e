"""Modes of the DensePose evaluation."""

from enum import Enum

__all__ = ["DensePoseDataMode", "DensePoseEvalMode"]


class DensePoseEvalMode(str, Enum):
    """Similarity of a detection and its ground truth."""

    GPSM = "gpsm"
    """geometric mean of GPS and the IoU of the masks"""
    GPS = "gps"
    """geodesic point similarity"""
    IOU = "iou"
    """IoU of the masks"""


class DensePoseDataMode(str, Enum):
    """Source of chart, U and V: the detection (DT), the ground truth (GT), or 0."""

    IUV_DT = "iuvdt"
    IUV_GT = "iuvgt"
    I_GT_UV_0 = "igtuv0"
    I_GT_UV_DT = "igtuvdt"
    I_DT_UV_0 = "idtuv0"
