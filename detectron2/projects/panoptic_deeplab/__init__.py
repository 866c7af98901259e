"""Panoptic-DeepLab: panoptic segmentation from classes of pixels, centres of objects and offsets to them.

Importing this package registers the architecture ``PanopticDeepLab`` and its heads, and those of
:mod:`detectron2.projects.deeplab`.

Reference: https://arxiv.org/abs/1911.10194
"""

from .config import add_panoptic_deeplab_config
from .dataset_mapper import PanopticDeeplabDatasetMapper
from .panoptic_seg import (
    PanopticDeepLab,
    PanopticDeepLabInsEmbedHead,
    PanopticDeepLabSemSegHead,
    build_ins_embed_branch,
)

__all__ = [
    "PanopticDeepLab",
    "PanopticDeepLabInsEmbedHead",
    "PanopticDeepLabSemSegHead",
    "PanopticDeeplabDatasetMapper",
    "add_panoptic_deeplab_config",
    "build_ins_embed_branch",
]
