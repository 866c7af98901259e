"""What an evaluation of DensePose judges."""

from enum import Enum

__all__ = ["DensePoseDataMode", "DensePoseEvalMode"]


class DensePoseEvalMode(str, Enum):
    """What the similarity of a detection and its ground truth is."""

    GPSM = "gpsm"
    """geometric mean of GPS and the IoU of the masks"""
    GPS = "gps"
    """geodesic point similarity"""
    IOU = "iou"
    """IoU of the masks"""


class DensePoseDataMode(str, Enum):
    """Which of chart, U and V are taken from the detection (DT), from the ground truth (GT), or are 0."""

    IUV_DT = "iuvdt"
    IUV_GT = "iuvgt"
    I_GT_UV_0 = "igtuv0"
    I_GT_UV_DT = "igtuvdt"
    I_DT_UV_0 = "idtuv0"
