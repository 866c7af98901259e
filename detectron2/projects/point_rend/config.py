"""Config keys of PointRend, with their defaults."""

from detectron2.config import CfgNode

__all__ = ["add_pointrend_config"]


def add_pointrend_config(cfg: CfgNode) -> None:
    """Add the keys of PointRend and implicit PointRend.

    Args:
        cfg: config to extend in place, such as ``get_cfg()``.
    """
    cfg.INPUT.COLOR_AUG_SSD = False  # change colours of training images at random, as SSD does
    # Crops in which one class covers a larger fraction are drawn again; 1.0 allows any.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0

    mask_head = cfg.MODEL.ROI_MASK_HEAD
    mask_head.IN_FEATURES = ["p2"]  # feature maps of the coarse head
    mask_head.FC_DIM = 1024  # channels of the linear layers of the coarse head
    mask_head.NUM_FC = 2  # linear layers of the coarse head
    mask_head.OUTPUT_SIDE_RESOLUTION = 7  # side of the coarse mask
    mask_head.POINT_HEAD_ON = False  # refine the coarse mask at points

    point_head = cfg.MODEL.POINT_HEAD = CfgNode()
    point_head.NAME = "StandardPointHead"  # name in POINT_HEAD_REGISTRY
    point_head.NUM_CLASSES = 80  # classes of the masks
    point_head.IN_FEATURES = ["p2"]  # feature maps sampled at points
    point_head.TRAIN_NUM_POINTS = 14 * 14  # points of a mask that the head learns from
    point_head.OVERSAMPLE_RATIO = 3  # candidates per point in training
    point_head.IMPORTANCE_SAMPLE_RATIO = 0.75  # fraction of points chosen by uncertainty
    point_head.SUBDIVISION_STEPS = 5  # doublings of the resolution in inference
    point_head.SUBDIVISION_NUM_POINTS = 28 * 28  # points refined after each doubling
    point_head.FC_DIM = 256  # channels of its layers
    point_head.NUM_FC = 3  # layers before the last
    point_head.CLS_AGNOSTIC_MASK = False  # one mask for all classes
    point_head.COARSE_PRED_EACH_LAYER = True  # feed coarse predictions to every layer, not only the first
    point_head.COARSE_SEM_SEG_HEAD_NAME = "SemSegFPNHead"  # name in SEM_SEG_HEADS_REGISTRY

    implicit = cfg.MODEL.IMPLICIT_POINTREND = CfgNode()
    implicit.IMAGE_FEATURE_ENABLED = True  # give the head features of the image at each point
    implicit.POS_ENC_ENABLED = True  # give it encoded coordinates of each point
    implicit.PARAMS_L2_REGULARIZER = 0.00001  # weight of the squares of predicted parameters
