"""Config keys of MaskDINO, with their defaults."""

from detectron2.config import CfgNode

from ..mask2former.config import add_data_config, add_encoder_config, add_swin_config

__all__ = ["add_maskdino_config", "by_cross_entropy"]


def add_maskdino_config(cfg: CfgNode) -> None:
    """Add the keys of MaskDINO. Released configs also need those of ``add_deeplab_config``.

    Args:
        cfg: config to extend in place, such as ``get_cfg()``.
    """
    add_data_config(cfg)
    # Which mapper reads the data: "mask_former_semantic", "coco_instance_lsj", "coco_panoptic_lsj" or
    # "coco_instance_detr".
    cfg.INPUT.DATASET_MAPPER_NAME = "MaskDINO_semantic"
    cfg.Default_loading = True  # of the original's loading of backbones; unused

    add_encoder_config(cfg)
    head = cfg.MODEL.SEM_SEG_HEAD
    head.PIXEL_DECODER_NAME = "MaskDINOEncoder"
    head.DIM_FEEDFORWARD = 1024  # of the encoder
    head.NUM_FEATURE_LEVELS = 3  # unused: the encoder counts its feature maps
    head.TOTAL_NUM_FEATURE_LEVELS = 4  # those and levels beyond the coarsest of them
    head.FEATURE_ORDER = "high2low"  # order of the levels: "high2low", coarse first, or "low2high"

    node = cfg.MODEL.MaskDINO = CfgNode()
    node.LEARN_TGT = (
        False  # queries begin with learnt content, rather than with that of the encoder's proposals
    )
    node.PANO_BOX_LOSS = False  # learn boxes of things only
    node.SEMANTIC_CE_LOSS = False  # semantic segmentation with a softmax and "no object", not the focal loss
    node.DEEP_SUPERVISION = True  # losses also on the predictions before the last
    node.NO_OBJECT_WEIGHT = 0.1  # in the cross-entropy
    _add_weights(node)
    node.NHEADS = 8  # attention heads
    node.DROPOUT = 0.1  # of the decoder
    node.DIM_FEEDFORWARD = 2048  # of the decoder
    node.ENC_LAYERS = 0  # unused here; see MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS
    node.DEC_LAYERS = 6  # layers of the decoder
    node.INITIAL_PRED = True  # predict also before the first layer
    node.PRE_NORM = False  # normalise before each sublayer, not behind it
    node.BOX_LOSS = True  # learn boxes
    node.HIDDEN_DIM = 256  # channels of queries
    node.NUM_OBJECT_QUERIES = 100  # queries, the most objects that an image can have
    node.ENFORCE_INPUT_PROJ = False  # project features even if their channels fit
    node.SIZE_DIVISIBILITY = 32  # sides to which batches are padded
    node.TRANSFORMER_DECODER_NAME = "MaskDINODecoder"  # name in TRANSFORMER_DECODER_REGISTRY
    # Denoising: "seg", also of masks; "standard", of classes and boxes; "no".
    node.DN = "seg"
    node.DN_NOISE_SCALE = 0.4
    node.DN_NUM = 100  # denoising queries of an image, in groups of one for each object
    node.PRED_CONV = False  # unused
    node.EVAL_FLAG = 1  # unused
    # Points at which masks are compared in matching and in losses; see PointRend.
    node.TRAIN_NUM_POINTS = 112 * 112
    node.OVERSAMPLE_RATIO = 3.0
    node.IMPORTANCE_SAMPLE_RATIO = 0.75
    # Queries are the encoder's best proposals, whose boxes may be taken from their masks instead.
    node.TWO_STAGE = True
    node.INITIALIZE_BOX_TYPE = "no"  # "no", "bitmask" or "mask2box"
    _add_test_config(node)
    add_swin_config(cfg)


def _add_weights(node: CfgNode) -> None:
    """Weights of losses, and of costs in matching."""
    # Weights of losses; those of costs in matching begin with COST.
    node.CLASS_WEIGHT = 4.0
    node.DICE_WEIGHT = 5.0
    node.MASK_WEIGHT = 5.0
    node.BOX_WEIGHT = 5.0
    node.GIOU_WEIGHT = 2.0
    node.COST_CLASS_WEIGHT = 4.0
    node.COST_DICE_WEIGHT = 5.0
    node.COST_MASK_WEIGHT = 5.0
    node.COST_BOX_WEIGHT = 5.0
    node.COST_GIOU_WEIGHT = 2.0


def _add_test_config(node: CfgNode) -> None:
    test = node.TEST = CfgNode()
    test.TEST_FOUCUS_ON_BOX = (
        False  # scores of instances by their class only, not by their mask (the key's spelling)
    )
    test.SEMANTIC_ON = True  # return "sem_seg"
    test.INSTANCE_ON = False  # return "instances"
    test.PANOPTIC_ON = False  # return "panoptic_seg"
    test.OBJECT_MASK_THRESHOLD = 0.0  # least score of a query in panoptic segmentation
    test.OVERLAP_THRESHOLD = 0.0  # least share of its mask that a query must win there
    test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE = (
        False  # resize masks to the output before they become classes
    )
    # Sharpen class scores of semantic and panoptic segmentation by a softmax at a temperature.
    test.PANO_TRANSFORM_EVAL = True
    test.PANO_TEMPERATURE = 0.06


def by_cross_entropy(cfg: CfgNode) -> bool:
    """Return whether classes are learnt by softmax and cross-entropy: for semantic segmentation only, if wanted."""
    node = cfg.MODEL.MaskDINO
    return bool(node.SEMANTIC_CE_LOSS and node.TEST.SEMANTIC_ON and not node.TEST.PANOPTIC_ON)
