"""The keys of the yacs-style config with their defaults.

Keys that Detectron2 does not have are in ``yacs/new_keys.py``. Names that end in ``_TRAIN`` or ``_TEST`` apply to one
mode only. Sizes are in pixels, intervals in iterations, unless a comment says otherwise.
"""

from .yacs.config_node import CfgNode as CN
from .yacs.new_keys import add_new_keys

_C = CN()

_C.VERSION = 2  # of the key names; files of version 1 are still read

# ---------------------------------------------------------------- model
_C.MODEL = CN()
_C.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"  # name in META_ARCH_REGISTRY
_C.MODEL.DEVICE = "cuda"  # "cpu", "cuda", "cuda:1", "mps", …
_C.MODEL.WEIGHTS = ""  # path or URL (https://, detectron2://, catalog://) of initial weights; empty: random
_C.MODEL.LOAD_PROPOSALS = False  # proposals come from files (DATASETS.PROPOSAL_FILES_*) instead of an RPN
_C.MODEL.MASK_ON = False  # add a mask head to R-CNN models
_C.MODEL.KEYPOINT_ON = False  # add a keypoint head to R-CNN models
# Subtracted from and dividing each channel, in the order of INPUT.FORMAT, for values in [0, 255].
# The default std of 1 suits weights from Caffe2; torchvision's weights need [57.375, 57.120, 58.395].
_C.MODEL.PIXEL_MEAN = [103.530, 116.280, 123.675]
_C.MODEL.PIXEL_STD = [1.0, 1.0, 1.0]

# ---------------------------------------------------------------- images
_C.INPUT = CN()
_C.INPUT.FORMAT = "BGR"  # channel order of the model's input: "BGR", "RGB", "L" or "YUV-BT.601"
# Shorter edge in training: one of the list ("choice"), or any size between its two entries ("range").
_C.INPUT.MIN_SIZE_TRAIN = (800,)
_C.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
_C.INPUT.MAX_SIZE_TRAIN = 1333  # maximum of the longer edge
_C.INPUT.MIN_SIZE_TEST = 800  # shorter edge in evaluation and prediction; 0: do not resize
_C.INPUT.MAX_SIZE_TEST = 1333  # maximum of the longer edge in evaluation and prediction
_C.INPUT.RANDOM_FLIP = "horizontal"  # "horizontal", "vertical" or "none"; in training, with probability 1/2
_C.INPUT.MASK_FORMAT = "polygon"  # or "bitmask", which is exact for crowds and holes but slower
_C.INPUT.CROP = CN()
_C.INPUT.CROP.ENABLED = False  # random crop before resizing, in training
# "relative": SIZE is a fraction of both edges; "relative_range": a fraction between SIZE and 1; "absolute": pixels;
# "absolute_range": pixels between the two entries. SIZE is (height, width), or (min, max).
_C.INPUT.CROP.TYPE = "relative_range"
_C.INPUT.CROP.SIZE = [0.9, 0.9]

# ---------------------------------------------------------------- data
_C.DATASETS = CN()
_C.DATASETS.TRAIN = ()  # names in DatasetCatalog
_C.DATASETS.TEST = ()  # names in DatasetCatalog, evaluated one after the other
_C.DATASETS.PROPOSAL_FILES_TRAIN = ()  # one per data set, if MODEL.LOAD_PROPOSALS
_C.DATASETS.PROPOSAL_FILES_TEST = ()  # one per data set, if MODEL.LOAD_PROPOSALS
_C.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN = 2000  # best proposals kept per image
_C.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST = 1000  # best proposals kept per image

_C.DATALOADER = CN()
_C.DATALOADER.NUM_WORKERS = 4  # worker processes per rank
_C.DATALOADER.ASPECT_RATIO_GROUPING = True  # batch portrait and landscape images separately: less padding
_C.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True  # exclude images without annotations from training
# "TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler" or "WeightedTrainingSampler"
_C.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
_C.DATALOADER.REPEAT_THRESHOLD = 0.0  # repeat images of categories rarer than this share of images
_C.DATALOADER.REPEAT_SQRT = True  # repeat by the square root of the ratio (LVIS), otherwise by the ratio

# ---------------------------------------------------------------- backbone
_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.NAME = "build_resnet_backbone"  # name in BACKBONE_REGISTRY
_C.MODEL.BACKBONE.FREEZE_AT = 2  # freeze the first stages: 0 nothing, 1 the stem, 2 the stem and res2, …

_C.MODEL.FPN = CN()
_C.MODEL.FPN.IN_FEATURES = []  # feature maps of the bottom-up network, such as res2 to res5
_C.MODEL.FPN.OUT_CHANNELS = 256  # channels of each map of the pyramid
_C.MODEL.FPN.NORM = ""  # "", "GN", "BN", "SyncBN", …
_C.MODEL.FPN.FUSE_TYPE = "sum"  # of top-down and lateral features: "sum" or "avg"

_C.MODEL.RESNETS = CN()
_C.MODEL.RESNETS.DEPTH = 50  # 18, 34, 50, 101 or 152
_C.MODEL.RESNETS.OUT_FEATURES = ["res4"]  # res4 for C4 models, res2 to res5 for FPN
_C.MODEL.RESNETS.NUM_GROUPS = 1  # groups of the 3x3 convolution: 1 for ResNet, more for ResNeXt
_C.MODEL.RESNETS.NORM = "FrozenBN"  # "FrozenBN", "GN", "SyncBN", "BN"
_C.MODEL.RESNETS.WIDTH_PER_GROUP = 64  # channels per group of the 3x3 convolution in res2
_C.MODEL.RESNETS.STRIDE_IN_1X1 = (
    True  # stride in the 1x1 convolution (MSRA weights) or the 3x3 (torchvision, C2)
)
_C.MODEL.RESNETS.RES5_DILATION = 1  # dilation of res5: 1, or 2 to keep the stride of res4
_C.MODEL.RESNETS.RES2_OUT_CHANNELS = (
    256  # channels of res2; 64 for depths 18 and 34; each later stage doubles them
)
_C.MODEL.RESNETS.STEM_OUT_CHANNELS = 64  # channels of the stem
_C.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, False, False, False]  # deformable convolution in res2 … res5
_C.MODEL.RESNETS.DEFORM_MODULATED = False  # DCNv2 (True) or DCNv1
_C.MODEL.RESNETS.DEFORM_NUM_GROUPS = 1  # groups of offsets of a deformable convolution

# ---------------------------------------------------------------- anchors and proposals
_C.MODEL.ANCHOR_GENERATOR = CN()
_C.MODEL.ANCHOR_GENERATOR.NAME = "DefaultAnchorGenerator"  # name in ANCHOR_GENERATOR_REGISTRY
# One list per feature map, or a single list for all: square root of the anchor's area, and height / width.
_C.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64, 128, 256, 512]]
_C.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
_C.MODEL.ANCHOR_GENERATOR.ANGLES = [[-90, 0, 90]]  # degrees counter-clockwise; rotated anchors only
_C.MODEL.ANCHOR_GENERATOR.OFFSET = 0.0  # of the first anchor from the corner, in strides, in [0, 1)

_C.MODEL.PROPOSAL_GENERATOR = CN()
_C.MODEL.PROPOSAL_GENERATOR.NAME = (
    "RPN"  # name in PROPOSAL_GENERATOR_REGISTRY; "PrecomputedProposals" for none
)
_C.MODEL.PROPOSAL_GENERATOR.MIN_SIZE = 0  # drop proposals with an edge of at most this

_C.MODEL.RPN = CN()
_C.MODEL.RPN.HEAD_NAME = "StandardRPNHead"  # name in RPN_HEAD_REGISTRY
_C.MODEL.RPN.IN_FEATURES = ["res4"]  # feature maps that the anchors lie on
_C.MODEL.RPN.BOUNDARY_THRESH = (
    -1
)  # ignore anchors that exceed the image by more than this; negative: keep all
# Anchors with IoU below the first threshold are background (0), above the second an object (1), else ignored (-1).
_C.MODEL.RPN.IOU_THRESHOLDS = [0.3, 0.7]
_C.MODEL.RPN.IOU_LABELS = [0, -1, 1]
_C.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 256  # anchors in the loss
_C.MODEL.RPN.POSITIVE_FRACTION = 0.5  # maximum share of objects among them
_C.MODEL.RPN.BBOX_REG_LOSS_TYPE = "smooth_l1"  # "smooth_l1", "giou", "diou" or "ciou"
_C.MODEL.RPN.BBOX_REG_LOSS_WEIGHT = 1.0  # factor on the loss of box regression
_C.MODEL.RPN.BBOX_REG_WEIGHTS = (
    1.0,
    1.0,
    1.0,
    1.0,
)  # of dx, dy, dw, dh; rotated boxes have a fifth, the angle's
_C.MODEL.RPN.SMOOTH_L1_BETA = 0.0  # 0 is plain L1
_C.MODEL.RPN.LOSS_WEIGHT = 1.0  # factor on both losses of the RPN
# Proposals per feature map before NMS, and per image after it.
_C.MODEL.RPN.PRE_NMS_TOPK_TRAIN = 12000
_C.MODEL.RPN.PRE_NMS_TOPK_TEST = 6000
_C.MODEL.RPN.POST_NMS_TOPK_TRAIN = 2000
_C.MODEL.RPN.POST_NMS_TOPK_TEST = 1000
_C.MODEL.RPN.NMS_THRESH = 0.7  # of two proposals with a higher IoU the one with the lower score is dropped
_C.MODEL.RPN.CONV_DIMS = [-1]  # channels of the head's convolutions; -1: as many as its input

# ---------------------------------------------------------------- region heads
_C.MODEL.ROI_HEADS = CN()
_C.MODEL.ROI_HEADS.NAME = "Res5ROIHeads"  # name in ROI_HEADS_REGISTRY
_C.MODEL.ROI_HEADS.NUM_CLASSES = 80  # things, without background
_C.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]  # feature maps that the regions are cut from
_C.MODEL.ROI_HEADS.IOU_THRESHOLDS = [0.5]  # proposals with IoU below it are background, others objects
_C.MODEL.ROI_HEADS.IOU_LABELS = [
    0,
    1,
]  # labels below, between and above IOU_THRESHOLDS: 0 background, 1 object, -1 ignored
_C.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 512  # regions in the loss
_C.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.25  # maximum share of objects among them
_C.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.05  # drop detections with lower scores
_C.MODEL.ROI_HEADS.NMS_THRESH_TEST = (
    0.5  # of two detections of a class with a higher IoU the one with the lower score is dropped
)
_C.MODEL.ROI_HEADS.PROPOSAL_APPEND_GT = True  # add the ground-truth boxes to the proposals in training

_C.MODEL.ROI_BOX_HEAD = CN()
_C.MODEL.ROI_BOX_HEAD.NAME = ""  # name in ROI_BOX_HEAD_REGISTRY; unused by Res5ROIHeads
_C.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = "smooth_l1"  # "smooth_l1", "giou", "diou" or "ciou"
_C.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT = 1.0  # factor on the loss of box regression
_C.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS = (
    10.0,
    10.0,
    5.0,
    5.0,
)  # of dx, dy, dw, dh; rotated boxes have a fifth, the angle's
_C.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA = 0.0  # 0 is plain L1
_C.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlignV2"  # "ROIAlign" is without the half-pixel correction
_C.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 14  # height and width of a pooled region
_C.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO = 0  # samples per bin and axis; 0: as many as the bin has pixels
_C.MODEL.ROI_BOX_HEAD.NUM_CONV = 0  # convolutions before the fully connected layers
_C.MODEL.ROI_BOX_HEAD.CONV_DIM = 256  # channels of these convolutions
_C.MODEL.ROI_BOX_HEAD.NUM_FC = 0  # fully connected layers
_C.MODEL.ROI_BOX_HEAD.FC_DIM = 1024  # width of these layers
_C.MODEL.ROI_BOX_HEAD.NORM = ""  # of the convolutions: "", "GN", "BN", "SyncBN", …
_C.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = False  # one box regression for all classes
_C.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES = False  # train the mask and keypoint heads on refined boxes
_C.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE = False  # a sigmoid per class instead of one softmax
_C.MODEL.ROI_BOX_HEAD.USE_FED_LOSS = False  # federated loss (LVIS); needs USE_SIGMOID_CE
_C.MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES = 50  # classes sampled per batch
_C.MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER = 0.5  # sampled in proportion to image counts to this power

_C.MODEL.ROI_BOX_CASCADE_HEAD = CN()
_C.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS = (  # per stage
    (10.0, 10.0, 5.0, 5.0),
    (20.0, 20.0, 10.0, 10.0),
    (30.0, 30.0, 15.0, 15.0),
)
_C.MODEL.ROI_BOX_CASCADE_HEAD.IOUS = (0.5, 0.6, 0.7)  # IoU from which a region is an object, for each stage

_C.MODEL.ROI_MASK_HEAD = CN()
_C.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"  # name in ROI_MASK_HEAD_REGISTRY
_C.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 14  # height and width of a pooled region
_C.MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO = 0  # samples per bin and axis; 0: as many as the bin has pixels
_C.MODEL.ROI_MASK_HEAD.POOLER_TYPE = "ROIAlignV2"  # "ROIAlign" is without the half-pixel correction
_C.MODEL.ROI_MASK_HEAD.NUM_CONV = 0  # convolutions before the upsampling
_C.MODEL.ROI_MASK_HEAD.CONV_DIM = 256  # channels of these convolutions
_C.MODEL.ROI_MASK_HEAD.NORM = ""  # of the convolutions: "", "GN", "BN", "SyncBN", …
_C.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = False  # one mask for all classes

_C.MODEL.ROI_KEYPOINT_HEAD = CN()
_C.MODEL.ROI_KEYPOINT_HEAD.NAME = "KRCNNConvDeconvUpsampleHead"  # name in ROI_KEYPOINT_HEAD_REGISTRY
_C.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 17  # points of an object
_C.MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION = 14  # height and width of a pooled region
_C.MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO = (
    0  # samples per bin and axis; 0: as many as the bin has pixels
)
_C.MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE = "ROIAlignV2"  # "ROIAlign" is without the half-pixel correction
_C.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (512,) * 8  # channels of each convolution
_C.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 1  # exclude images with fewer visible ones from training
_C.MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT = 1.0  # factor on the loss of keypoints
# True: mean over the visible keypoints of the batch. False: divide by the number of keypoints of a full batch, so that
# batches with few keypoints have a small loss.
_C.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = True

# ---------------------------------------------------------------- semantic and panoptic segmentation
_C.MODEL.SEM_SEG_HEAD = CN()
_C.MODEL.SEM_SEG_HEAD.NAME = "SemSegFPNHead"  # name in SEM_SEG_HEADS_REGISTRY
_C.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p2", "p3", "p4", "p5"]  # feature maps that the head joins
_C.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 255  # label to ignore
_C.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 54  # stuff, with one class for all things in panoptic models
_C.MODEL.SEM_SEG_HEAD.CONVS_DIM = 128  # channels of the head
_C.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = 4  # all features are resized to it
_C.MODEL.SEM_SEG_HEAD.NORM = "GN"  # "", "GN", "BN", "SyncBN", …
_C.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT = 1.0  # factor on the semantic loss

_C.MODEL.PANOPTIC_FPN = CN()
_C.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT = 1.0  # of all losses of the region heads
_C.MODEL.PANOPTIC_FPN.COMBINE = CN()
_C.MODEL.PANOPTIC_FPN.COMBINE.ENABLED = True  # combine instances and stuff into a panoptic map
_C.MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH = 0.5  # drop an instance if more than this share is covered
_C.MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT = 4096  # drop stuff regions with fewer pixels
_C.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = 0.5  # drop instances with lower scores

# ---------------------------------------------------------------- RetinaNet (and FCOS)
_C.MODEL.RETINANET = CN()
_C.MODEL.RETINANET.NUM_CLASSES = 80  # things, without background
_C.MODEL.RETINANET.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]  # feature maps that the anchors lie on
_C.MODEL.RETINANET.NUM_CONVS = 4  # in each of the two towers
_C.MODEL.RETINANET.IOU_THRESHOLDS = [
    0.4,
    0.5,
]  # anchors with IoU below the first are background, above the second objects, else ignored
_C.MODEL.RETINANET.IOU_LABELS = [
    0,
    -1,
    1,
]  # labels below, between and above IOU_THRESHOLDS: 0 background, -1 ignored, 1 object
_C.MODEL.RETINANET.PRIOR_PROB = 0.01  # initial score of all classes
_C.MODEL.RETINANET.SCORE_THRESH_TEST = 0.05  # drop detections with lower scores
_C.MODEL.RETINANET.TOPK_CANDIDATES_TEST = 1000  # per feature map, before NMS
_C.MODEL.RETINANET.NMS_THRESH_TEST = (
    0.5  # of two detections of a class with a higher IoU the one with the lower score is dropped
)
_C.MODEL.RETINANET.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0)  # of dx, dy, dw, dh
_C.MODEL.RETINANET.FOCAL_LOSS_GAMMA = (
    2.0  # exponent of the focal loss: the higher, the less easy examples count
)
_C.MODEL.RETINANET.FOCAL_LOSS_ALPHA = 0.25  # weight of objects in the focal loss; background has 1 - alpha
_C.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA = 0.1  # 0 is plain L1
_C.MODEL.RETINANET.BBOX_REG_LOSS_TYPE = "smooth_l1"  # "smooth_l1", "giou", "diou" or "ciou"
_C.MODEL.RETINANET.NORM = ""  # of the towers: "", "GN", "BN", "SyncBN", …

# ---------------------------------------------------------------- training
_C.SOLVER = CN()
_C.SOLVER.LR_SCHEDULER_NAME = "WarmupMultiStepLR"  # or "WarmupCosineLR", "WarmupStepWithFixedGammaLR"
_C.SOLVER.MAX_ITER = 40000
_C.SOLVER.BASE_LR = 0.001  # learning rate after the warm-up, for IMS_PER_BATCH images
_C.SOLVER.BASE_LR_END = 0.0  # learning rate at the end of the cosine
_C.SOLVER.MOMENTUM = 0.9  # of SGD
_C.SOLVER.NESTEROV = False  # Nesterov's momentum
_C.SOLVER.WEIGHT_DECAY = 0.0001  # of all parameters without a value of their own
_C.SOLVER.WEIGHT_DECAY_NORM = 0.0  # of normalisation layers
_C.SOLVER.WEIGHT_DECAY_BIAS = None  # of biases; None: WEIGHT_DECAY
_C.SOLVER.BIAS_LR_FACTOR = 1.0  # learning rate of biases, as a multiple of BASE_LR
_C.SOLVER.GAMMA = 0.1  # factor on the learning rate at each of STEPS
_C.SOLVER.STEPS = (30000,)  # those at or beyond MAX_ITER are ignored
_C.SOLVER.NUM_DECAYS = 3  # of WarmupStepWithFixedGammaLR
_C.SOLVER.WARMUP_FACTOR = 1.0 / 1000  # the learning rate begins at this share of BASE_LR
_C.SOLVER.WARMUP_ITERS = 1000  # iterations, or epochs (`"1ep"`), until the full learning rate
_C.SOLVER.WARMUP_METHOD = "linear"  # or "constant"
_C.SOLVER.RESCALE_INTERVAL = (
    False  # run the whole curve after the warm-up, instead of replacing its beginning
)
_C.SOLVER.CHECKPOINT_PERIOD = 5000
_C.SOLVER.IMS_PER_BATCH = 16  # over all processes
# Number of processes that the schedule is designed for; for another number, batch size, learning rate and lengths are
# scaled in proportion. 0: no scaling.
_C.SOLVER.REFERENCE_WORLD_SIZE = 0
_C.SOLVER.CLIP_GRADIENTS = CN()
_C.SOLVER.CLIP_GRADIENTS.ENABLED = False  # clip gradients
_C.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"  # of each entry, "norm" of each parameter, or "full_model" norm
_C.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0  # largest entry or norm
_C.SOLVER.CLIP_GRADIENTS.NORM_TYPE = 2.0  # p of the p-norm, for "norm" and "full_model"
_C.SOLVER.AMP = CN()
_C.SOLVER.AMP.ENABLED = False  # mixed precision

# ---------------------------------------------------------------- evaluation
_C.TEST = CN()
_C.TEST.EXPECTED_RESULTS = []  # [task, metric, value, tolerance] entries, asserted after evaluation
_C.TEST.EVAL_PERIOD = 0  # iterations between evaluations in training; 0: at the end only
_C.TEST.KEYPOINT_OKS_SIGMAS = []  # one per keypoint; empty: those of COCO's persons
_C.TEST.DETECTIONS_PER_IMAGE = 100  # most detections of an image, best scores first
_C.TEST.AUG = CN()  # test-time augmentation
_C.TEST.AUG.ENABLED = False  # test-time augmentation: average over sizes and mirror images
_C.TEST.AUG.MIN_SIZES = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)  # shorter edges to predict at
_C.TEST.AUG.MAX_SIZE = 4000  # maximum of the longer edge
_C.TEST.AUG.FLIP = True  # also predict the mirror image
_C.TEST.PRECISE_BN = CN()  # exact batch statistics before evaluation
_C.TEST.PRECISE_BN.ENABLED = False
_C.TEST.PRECISE_BN.NUM_ITER = 200

# ---------------------------------------------------------------- other
_C.OUTPUT_DIR = "./output"
_C.SEED = -1  # negative: a new one for each run
_C.CUDNN_BENCHMARK = False  # let cuDNN time its algorithms; helps if image sizes repeat
_C.FLOAT32_PRECISION = ""  # of matrix products: "highest", "high" or "medium"; empty: PyTorch's default
_C.VIS_PERIOD = 0  # iterations between visualizations of training inputs and predictions; 0: never
_C.GLOBAL = CN()  # temporary settings of experiments
_C.GLOBAL.HACK = 1.0  # number without a meaning of its own

add_new_keys(_C)
