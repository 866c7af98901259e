"""PointSup: instance segmentation from boxes and a few labelled points of each object.

Importing this package registers its heads and datasets; :func:`add_point_sup_config` adds its keys to a config, next
to those of :func:`detectron2.projects.point_rend.add_pointrend_config`.

Reference: Pointly-Supervised Instance Segmentation, https://arxiv.org/abs/2104.06404
"""

from . import register_point_annotations  # registers the datasets
from .config import add_point_sup_config
from .dataset_mapper import PointSupDatasetMapper
from .mask_head import MaskRCNNConvUpsamplePointSupHead
from .point_utils import get_point_coords_from_point_annotation

__all__ = [
    "MaskRCNNConvUpsamplePointSupHead",
    "PointSupDatasetMapper",
    "add_point_sup_config",
    "get_point_coords_from_point_annotation",
    "register_point_annotations",
]
