"""PointRend: masks and label maps refined at uncertain points, as in rendering.

Importing this package registers its heads; :func:`add_pointrend_config` adds its keys to a config.

Example:
    >>> cfg = get_cfg()
    >>> add_pointrend_config(cfg)
    >>> cfg.merge_from_file("configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml")  # in this package
    >>> model = build_model(cfg)  # doctest: +SKIP

References: PointRend: Image Segmentation as Rendering, https://arxiv.org/abs/1912.08193; implicit PointRend in
Pointly-Supervised Instance Segmentation, https://arxiv.org/abs/2104.06404
"""

from . import roi_heads  # registers PointRendROIHeads
from .color_augmentation import ColorAugSSDTransform
from .config import add_pointrend_config
from .mask_head import ImplicitPointRendMaskHead, PointRendMaskHead
from .semantic_seg import PointRendSemSegHead

__all__ = [
    "ColorAugSSDTransform",
    "ImplicitPointRendMaskHead",
    "PointRendMaskHead",
    "PointRendSemSegHead",
    "add_pointrend_config",
    "roi_heads",
]
