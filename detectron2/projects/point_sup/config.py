"""Config keys of PointSup, with their defaults."""

from detectron2.config import CfgNode

__all__ = ["add_point_sup_config"]


def add_point_sup_config(cfg: CfgNode) -> None:
    """Add the keys of PointSup.

    Args:
        cfg: config to extend in place, such as ``get_cfg()``.
    """
    cfg.INPUT.POINT_SUP = False  # train from points instead of masks
    cfg.INPUT.SAMPLE_POINTS = 0  # points drawn per object and iteration; 0 = all
