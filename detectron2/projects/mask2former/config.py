"""Config keys of Mask2Former, with their defaults."""

from detectron2.config import CfgNode

__all__ = ["add_data_config", "add_encoder_config", "add_maskformer2_config", "add_swin_config"]


def add_maskformer2_config(cfg: CfgNode) -> None:
    """Add the keys of Mask2Former. Released configs also need those of ``add_deeplab_config``.

    Args:
        cfg: config to extend in place, such as ``get_cfg()``.
    """
    add_data_config(cfg)
    # Mapper that reads the data: "mask_former_semantic", "mask_former_panoptic", "mask_former_instance",
    # "coco_instance_lsj" or "coco_panoptic_lsj".
    cfg.INPUT.DATASET_MAPPER_NAME = "mask_former_semantic"
    node = cfg.MODEL.MASK_FORMER = CfgNode()
    node.DEEP_SUPERVISION = True  # compute losses on all predictions, not only the last
    node.NO_OBJECT_WEIGHT = 0.1  # of "no object" in the cross-entropy
    # Weights of the losses, and of the costs in matching.
    node.CLASS_WEIGHT = 1.0
    node.DICE_WEIGHT = 1.0
    node.MASK_WEIGHT = 20.0
    node.NHEADS = 8  # attention heads
    node.DROPOUT = 0.1  # of the pixel decoder; the transformer decoder has none
    node.DIM_FEEDFORWARD = 2048  # of the transformer decoder; the pixel decoder has 1024
    node.ENC_LAYERS = 0  # unused here; see MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS
    node.DEC_LAYERS = 6  # number of predictions; the first is made before the first layer
    node.PRE_NORM = False  # normalise before each sublayer, not behind it
    node.HIDDEN_DIM = 256  # channels of queries
    node.NUM_OBJECT_QUERIES = 100  # queries, the most objects that an image can have
    node.TRANSFORMER_IN_FEATURE = "res5"  # released configs: "multi_scale_pixel_decoder"
    node.ENFORCE_INPUT_PROJ = False  # project features even if their channels fit
    node.SIZE_DIVISIBILITY = 32  # pad batches to multiples of it
    node.TRANSFORMER_DECODER_NAME = "MultiScaleMaskedTransformerDecoder"  # a registered name
    # Points at which matching and losses compare masks; see PointRend.
    node.TRAIN_NUM_POINTS = 112 * 112
    node.OVERSAMPLE_RATIO = 3.0
    node.IMPORTANCE_SAMPLE_RATIO = 0.75

    test = node.TEST = CfgNode()
    test.SEMANTIC_ON = True  # return "sem_seg"
    test.INSTANCE_ON = False  # return "instances"
    test.PANOPTIC_ON = False  # return "panoptic_seg"
    test.OBJECT_MASK_THRESHOLD = 0.0  # minimum score of a query in panoptic segmentation
    test.OVERLAP_THRESHOLD = 0.0  # minimum fraction of its mask that a query must win there
    test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE = (
        False  # resize masks to the output size before computing classes
    )

    add_encoder_config(cfg)
    cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME = (
        "BasePixelDecoder"  # released configs: "MSDeformAttnPixelDecoder"
    )
    add_swin_config(cfg)


def add_data_config(cfg: CfgNode) -> None:
    """Add the keys of mappers and of the optimizer."""
    cfg.INPUT.COLOR_AUG_SSD = False  # change colours of training images at random, as SSD does
    cfg.INPUT.SIZE_DIVISIBILITY = -1  # side to which mappers pad training images; -1 = no padding
    # Large-scale jitter of the "lsj" mappers: scale by MIN_SCALE to MAX_SCALE, then crop or pad to IMAGE_SIZE.
    cfg.INPUT.IMAGE_SIZE = 1024
    cfg.INPUT.MIN_SCALE = 0.1
    cfg.INPUT.MAX_SCALE = 2.0

    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0  # weight decay of embeddings
    cfg.SOLVER.OPTIMIZER = "ADAMW"  # "ADAMW" or "SGD"
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.1  # factor of the backbone's learning rate


def add_encoder_config(cfg: CfgNode) -> None:
    """Add the keys of a pixel decoder with deformable attention."""
    head = cfg.MODEL.SEM_SEG_HEAD
    head.MASK_DIM = 256  # channels of the features that masks are multiplied with
    head.TRANSFORMER_ENC_LAYERS = 0  # layers of the deformable encoder
    head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES = ["res3", "res4", "res5"]  # for the encoder
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS = 4  # points of each head on each level
    head.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS = 8  # attention heads of the encoder


def add_swin_config(cfg: CfgNode) -> None:
    """Add ``MODEL.SWIN``, the arguments of :class:`.D2SwinTransformer`."""
    swin = cfg.MODEL.SWIN = CfgNode()
    swin.PRETRAIN_IMG_SIZE = 224  # side of the pictures of pretraining, for absolute positions
    swin.PATCH_SIZE = 4  # side of a patch in pixels
    swin.EMBED_DIM = 96  # channels of the first stage; each next one has twice as many
    swin.DEPTHS = [2, 2, 6, 2]  # blocks of each stage
    swin.NUM_HEADS = [3, 6, 12, 24]  # attention heads of each stage
    swin.WINDOW_SIZE = 7  # side of a window in patches
    swin.MLP_RATIO = 4.0  # hidden channels of an MLP as a multiple of its inputs
    swin.QKV_BIAS = True  # bias of queries, keys and values
    swin.QK_SCALE = None  # factor of queries; None = 1 / sqrt(channels of a head)
    swin.DROP_RATE = 0.0  # dropout behind positions and linear layers
    swin.ATTN_DROP_RATE = 0.0  # dropout of attention weights
    swin.DROP_PATH_RATE = 0.3  # stochastic depth of the last block; it grows linearly from 0
    swin.APE = False  # add absolute positions
    swin.PATCH_NORM = True  # normalise patches
    swin.OUT_FEATURES = ["res2", "res3", "res4", "res5"]  # stages that are returned
    swin.USE_CHECKPOINT = False  # save memory: compute blocks again in the backward pass
