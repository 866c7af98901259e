"""Config keys of DensePose, with their defaults."""

from detectron2.config import CfgNode

__all__ = [
    "add_bootstrap_config",
    "add_dataset_category_config",
    "add_densepose_config",
    "add_densepose_head_config",
    "add_densepose_head_cse_config",
    "add_evaluation_config",
    "add_hrnet_config",
    "get_bootstrap_dataset_config",
    "load_bootstrap_config",
]


def add_densepose_config(cfg: CfgNode) -> None:
    """Add every key of DensePose.

    Args:
        cfg: config to extend in place, such as ``get_cfg()``.
    """
    add_densepose_head_config(cfg)
    add_hrnet_config(cfg)
    add_bootstrap_config(cfg)
    add_dataset_category_config(cfg)
    add_evaluation_config(cfg)


def add_densepose_head_config(cfg: CfgNode) -> None:
    """Add the keys of the DensePose head and of rotations in training and testing.

    Args:
        cfg: config to extend in place.
    """
    cfg.MODEL.DENSEPOSE_ON = True  # predict DensePose
    head = cfg.MODEL.ROI_DENSEPOSE_HEAD = CfgNode()
    head.NAME = ""  # name in ROI_DENSEPOSE_HEAD_REGISTRY
    # The layers of the head: how many, and their channels.
    head.NUM_STACKED_CONVS = 8
    head.CONV_HEAD_DIM = 512
    head.CONV_HEAD_KERNEL = 3  # their side
    # Of the DeepLab head: normalisation, and whether a non-local block follows.
    head.DEEPLAB = CfgNode({"NORM": "GN", "NONLOCAL_ON": 0})

    # How features of boxes are pooled; see MODEL.ROI_BOX_HEAD.
    head.POOLER_TYPE = "ROIAlignV2"
    head.POOLER_RESOLUTION = 28
    head.POOLER_SAMPLING_RATIO = 2
    # The decoder merges the levels of the feature pyramid into one map, from which the head pools features.
    head.DECODER_ON = True
    head.DECODER_NUM_CLASSES = 256  # channels of that map
    head.DECODER_CONV_DIMS = 256  # channels of its layers
    head.DECODER_NORM = ""  # normalisation in the decoder, "" for none
    head.DECODER_COMMON_STRIDE = 4  # stride of that map in pixels

    head.PREDICTOR_NAME = "DensePoseChartWithConfidencePredictor"  # name in DENSEPOSE_PREDICTOR_REGISTRY
    head.DECONV_KERNEL = 4  # side of the transposed convolution
    head.UP_SCALE = 2  # bilinear upsampling factor after the transposed convolution
    head.HEATMAP_SIZE = 112  # side of the predicted maps: 2 * UP_SCALE * POOLER_RESOLUTION
    head.NUM_COARSE_SEGM_CHANNELS = 2  # 2: background and body; 15: background and 14 parts
    head.NUM_PATCHES = 24  # charts of the surface, without background

    head.LOSS_NAME = "DensePoseChartWithConfidenceLoss"  # name in DENSEPOSE_LOSS_REGISTRY
    head.FG_IOU_THRESHOLD = 0.7  # minimum IoU of the proposals that train the head
    head.POINT_REGRESSION_WEIGHTS = 0.01  # weight of the U and V losses
    head.PART_WEIGHTS = 1.0  # weight of the loss on fine segmentation
    head.INDEX_WEIGHTS = 5.0  # weight of the loss on coarse segmentation
    head.COARSE_SEGM_TRAINED_BY_MASKS = False  # train it on instance masks instead of DensePose's part labels

    # Predicted uncertainty of U and V. "iid_iso": one deviation for both; "indep_aniso": a full covariance.
    head.UV_CONFIDENCE = CfgNode({"ENABLED": False, "EPSILON": 0.01, "TYPE": "iid_iso"})
    # Predicted confidence of the coarse segmentation, at least EPSILON.
    head.SEGM_CONFIDENCE = CfgNode({"ENABLED": False, "EPSILON": 0.01})
    add_densepose_head_cse_config(cfg)

    # Angles in degrees, one of which is drawn for each training image.
    cfg.INPUT.ROTATION_ANGLES = [0]
    cfg.TEST.AUG.ROTATION_ANGLES = ()


def add_densepose_head_cse_config(cfg: CfgNode) -> None:
    """Add the keys of continuous surface embeddings.

    Args:
        cfg: config to extend in place; it must have ``MODEL.ROI_DENSEPOSE_HEAD``.
    """
    cse = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE = CfgNode()
    # One node per mesh name: TYPE, NUM_VERTICES, FEATURE_DIM, FEATURES_TRAINABLE, IS_TRAINABLE, INIT_FILE.
    cse.EMBEDDERS = CfgNode(new_allowed=True)
    cse.EMBED_SIZE = 16
    cse.EMBED_LOSS_NAME = "EmbeddingLoss"  # or "SoftEmbeddingLoss"
    cse.EMBED_LOSS_WEIGHT = 0.6  # factor of that loss
    # Widths of the Gaussians of distances between embeddings and, for SoftEmbeddingLoss, on the surface.
    cse.EMBEDDING_DIST_GAUSS_SIGMA = 0.01
    cse.GEODESIC_DIST_GAUSS_SIGMA = 0.01
    # Factors of the learning rate for the embeddings of vertices and for their features.
    cse.EMBEDDING_LR_FACTOR = 1.0
    cse.FEATURES_LR_FACTOR = 1.0
    cse.SHAPE_TO_SHAPE_CYCLE_LOSS = CfgNode(
        {
            "ENABLED": False,  # learn that vertices of a mesh find themselves again by way of another mesh
            "WEIGHT": 0.025,  # factor of this loss
            "NORM_P": 2,  # norm of the errors
            "TEMPERATURE": 0.05,  # of the softmax over vertices
            "MAX_NUM_VERTICES": 4936,  # vertices drawn from a mesh
        }
    )
    cse.PIX_TO_SHAPE_CYCLE_LOSS = CfgNode(
        {
            "ENABLED": False,  # learn that pixels find themselves again by way of a mesh
            "WEIGHT": 0.0001,  # factor of this loss
            "NORM_P": 2,  # norm of the errors
            "USE_ALL_MESHES_NOT_GT_ONLY": False,  # by way of each mesh, not only that of the object's class
            "NUM_PIXELS_TO_SAMPLE": 100,  # pixels drawn from an object
            "PIXEL_SIGMA": 5.0,  # unused
            "TEMPERATURE_PIXEL_TO_VERTEX": 0.05,  # of the softmax over vertices
            "TEMPERATURE_VERTEX_TO_PIXEL": 0.05,  # of the softmax over pixels
        }
    )


def add_hrnet_config(cfg: CfgNode) -> None:
    """Add the keys of the HRNet backbone and its feature pyramid; the defaults are HRNet-W32.

    Args:
        cfg: config to extend in place.
    """

    def stage(modules: int, branches: int) -> CfgNode:
        return CfgNode(
            {
                "NUM_MODULES": modules,
                "NUM_BRANCHES": branches,
                "NUM_BLOCKS": [4] * branches,
                "NUM_CHANNELS": [32 * 2**i for i in range(branches)],
                "BLOCK": "BASIC",
                "FUSE_METHOD": "SUM",
            }
        )

    hrnet = cfg.MODEL.HRNET = CfgNode()
    hrnet.STEM_INPLANES = 64  # channels of the stem
    # Of each stage: modules, branches of different strides, and blocks and channels of each branch.
    hrnet.STAGE2 = stage(modules=1, branches=2)
    hrnet.STAGE3 = stage(modules=4, branches=3)
    hrnet.STAGE4 = stage(modules=3, branches=4)
    hrnet.HRFPN = CfgNode({"OUT_CHANNELS": 256})  # channels of the feature pyramid


def add_bootstrap_config(cfg: CfgNode) -> None:
    """Add the keys of bootstrapping: training on a model's own predictions.

    Args:
        cfg: config to extend in place.
    """
    cfg.BOOTSTRAP_DATASETS = []  # a node for each data set; see get_bootstrap_dataset_config
    # The model whose predictions are learnt, and its device.
    cfg.BOOTSTRAP_MODEL = CfgNode({"WEIGHTS": "", "DEVICE": "cuda"})


def get_bootstrap_dataset_config() -> CfgNode:
    """Return the default config of one entry of ``BOOTSTRAP_DATASETS``."""
    node = CfgNode()
    node.DATASET = ""
    node.RATIO = 0.1  # batches per batch of annotated data
    node.IMAGE_LOADER = CfgNode(new_allowed=True)
    node.IMAGE_LOADER.TYPE = ""
    node.IMAGE_LOADER.BATCH_SIZE = 4
    node.IMAGE_LOADER.NUM_WORKERS = 4
    node.IMAGE_LOADER.CATEGORIES = []
    node.IMAGE_LOADER.MAX_COUNT_PER_CATEGORY = 1_000_000
    node.IMAGE_LOADER.CATEGORY_TO_CLASS_MAPPING = CfgNode(new_allowed=True)
    node.INFERENCE = CfgNode({"INPUT_BATCH_SIZE": 4, "OUTPUT_BATCH_SIZE": 2}, new_allowed=True)
    node.DATA_SAMPLER = CfgNode({"TYPE": "", "USE_GROUND_TRUTH_CATEGORIES": False}, new_allowed=True)
    node.FILTER = CfgNode({"TYPE": ""}, new_allowed=True)
    return node


def load_bootstrap_config(cfg: CfgNode) -> None:
    """Convert the entries of ``BOOTSTRAP_DATASETS``, plain dicts in a YAML file, to complete configs.

    Args:
        cfg: config to change in place.
    """
    entries = []
    for given in cfg.BOOTSTRAP_DATASETS:
        entry = get_bootstrap_dataset_config()
        entry.merge_from_other_cfg(given)
        entries.append(entry)
    cfg.BOOTSTRAP_DATASETS = entries


def add_dataset_category_config(cfg: CfgNode) -> None:
    """Add the keys that select and merge categories; each is a node with a key per dataset or class.

    Args:
        cfg: config to extend in place.
    """
    cfg.DATASETS.WHITELISTED_CATEGORIES = CfgNode(new_allowed=True)
    cfg.DATASETS.CATEGORY_MAPS = CfgNode(
        new_allowed=True
    )  # category id -> id of the category it is merged into
    cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING = CfgNode(new_allowed=True)


def add_evaluation_config(cfg: CfgNode) -> None:
    """Add the keys of the DensePose evaluation.

    Args:
        cfg: config to extend in place.
    """
    # "iuv" for charts or "cse" for surface embeddings; the default is an old name of "iuv".
    node = cfg.DENSEPOSE_EVALUATION = CfgNode()
    node.TYPE = "iou"
    node.STORAGE = "none"  # storage of predictions: "none" (memory), "ram" or "file"
    node.MIN_IOU_THRESHOLD = 0.5  # of predictions that the evaluation of charts counts
    node.DISTRIBUTED_INFERENCE = True  # gather the predictions of all processes
    node.EVALUATE_MESH_ALIGNMENT = False  # evaluate how well vertices of meshes fit to each other
    node.MESH_ALIGNMENT_MESH_NAMES = []  # those meshes
