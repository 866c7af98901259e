"""Config keys of Panoptic-DeepLab, with their defaults."""

from detectron2.config import CfgNode

from ..deeplab.config import add_deeplab_config

__all__ = ["add_deeplab_config", "add_panoptic_deeplab_config"]


def add_panoptic_deeplab_config(cfg: CfgNode) -> None:
    """Add the keys of DeepLab and of Panoptic-DeepLab.

    Args:
        cfg: config to extend in place, such as ``get_cfg()``.
    """
    add_deeplab_config(cfg)
    cfg.SOLVER.OPTIMIZER = "ADAM"  # "ADAM" or "SGD"

    # Targets, see PanopticDeepLabTargetGenerator.
    cfg.INPUT.GAUSSIAN_SIGMA = 10  # pixels
    cfg.INPUT.IGNORE_STUFF_IN_OFFSET = True  # learn offsets only on things
    cfg.INPUT.SMALL_INSTANCE_AREA = 4096  # pixels
    cfg.INPUT.SMALL_INSTANCE_WEIGHT = 3  # factor of the semantic loss on small instances
    cfg.INPUT.IGNORE_CROWD_IN_SEMANTIC = False  # learn no classes on crowds

    semantic = cfg.MODEL.SEM_SEG_HEAD
    semantic.HEAD_CHANNELS = 256  # channels of the layers before the prediction
    semantic.LOSS_TOP_K = 0.2  # fraction of the pixels that LOSS_TYPE "hard_pixel_mining" learns from

    instance = cfg.MODEL.INS_EMBED_HEAD = CfgNode()
    instance.NAME = "PanopticDeepLabInsEmbedHead"  # name in INS_EMBED_BRANCHES_REGISTRY
    instance.IN_FEATURES = ["res2", "res3", "res5"]  # feature maps from the backbone
    # Feature maps that the decoder adds to the pyramid, and their channels in it.
    instance.PROJECT_FEATURES = ["res2", "res3"]
    instance.PROJECT_CHANNELS = [32, 64]
    # Atrous spatial pyramid pooling: channels of its branches, their dilations, and dropout behind them.
    instance.ASPP_CHANNELS = 256
    instance.ASPP_DILATIONS = [6, 12, 18]
    instance.ASPP_DROPOUT = 0.1
    instance.HEAD_CHANNELS = 32  # channels of the layers before the predictions
    instance.CONVS_DIM = 128  # channels of the decoder
    instance.COMMON_STRIDE = 4  # stride of the prediction in pixels
    instance.NORM = "SyncBN"  # normalisation
    instance.CENTER_LOSS_WEIGHT = 200.0  # weight of the squared error of the heat map of centres
    instance.OFFSET_LOSS_WEIGHT = 0.01  # weight of the absolute error of offsets to centres

    panoptic = cfg.MODEL.PANOPTIC_DEEPLAB = CfgNode()
    panoptic.STUFF_AREA = 2048  # drop stuff regions of fewer pixels
    panoptic.CENTER_THRESHOLD = 0.1  # minimum heat map value of a centre
    panoptic.NMS_KERNEL = 7  # side of the window in which a centre must be the maximum
    panoptic.TOP_K_INSTANCE = 200  # centres kept
    panoptic.USE_DEPTHWISE_SEPARABLE_CONV = False  # must equal that of SEM_SEG_HEAD
    panoptic.SIZE_DIVISIBILITY = -1  # pad batches to multiples of it; below 1 = as the backbone needs
    panoptic.BENCHMARK_NETWORK_SPEED = False  # run the network only, and return nothing
    panoptic.PREDICT_INSTANCES = True  # also return things as Instances with scores
