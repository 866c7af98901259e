"""Which key of a yacs-style config is which place in a Python config of the zoo.

``python tools/yaml_to_python --keys`` prints the table; ``convert.py`` uses it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = ["COMPOUND", "RULES", "Rule", "key_table"]


def _same(value: object) -> object:
    return value


def _one_or_list(value: Sequence[object]) -> object:
    return value[0] if len(value) == 1 else list(value)


def _inner(value: Sequence[object]) -> object:
    """One list for all levels is written without the outer brackets."""
    return value[0] if len(value) == 1 and isinstance(value[0], (list, tuple)) else value


class Rule(NamedTuple):
    """One key.

    Attributes:
        old: key of the yacs-style config.
        new: places in the Python config; all that the model has are written.
        to_new: conversion of the value.
        unset: what the Python config means when it lacks the place; None: the yacs default.
    """

    old: str
    new: tuple[str, ...]
    to_new: Callable[[Any], Any] = _same
    unset: object = None


_TRAIN, _TEST = "dataloader.train", "dataloader.test"
_RESIZE = f"{_TRAIN}.mapper.augmentations.0"
_RESIZE_TEST = f"{_TEST}.mapper.augmentations.0"
_FPN, _NET = "model.backbone", "model.backbone.bottom_up"
_RPN, _ROI = "model.proposal_generator", "model.roi_heads"


def _rules(prefix: str, place: str, pairs: dict[str, str]) -> list[Rule]:
    return [Rule(f"{prefix}.{old}", tuple(f"{place}.{p}" for p in new.split())) for old, new in pairs.items()]


def _pooler(head: str, name: str, shape: str) -> list[Rule]:
    pooler = f"{_ROI}.{name}_pooler" if name else f"{_ROI}.pooler"
    sizes = tuple(f"{_ROI}.{shape}.input_shape.{edge}" for edge in ("height", "width")) if shape else ()
    return [
        Rule(f"MODEL.{head}.POOLER_RESOLUTION", (f"{pooler}.output_size", *sizes)),
        Rule(f"MODEL.{head}.POOLER_SAMPLING_RATIO", (f"{pooler}.sampling_ratio",)),
        Rule(f"MODEL.{head}.POOLER_TYPE", (f"{pooler}.pooler_type",)),
    ]


_GENERAL = [
    Rule("MODEL.WEIGHTS", ("train.init_checkpoint",)),
    Rule("MODEL.DEVICE", ("train.device",)),
    Rule("OUTPUT_DIR", ("train.output_dir",)),
    Rule("SEED", ("train.seed",)),
    Rule("CUDNN_BENCHMARK", ("train.cudnn_benchmark",)),
    Rule("FLOAT32_PRECISION", ("train.float32_precision",)),
    Rule("VIS_PERIOD", ("model.vis_period",)),
    Rule("TEST.EVAL_PERIOD", ("train.eval_period",), unset=5000),
    Rule("SOLVER.MAX_ITER", ("train.max_iter",)),
    Rule("SOLVER.CHECKPOINT_PERIOD", ("train.checkpointer.period",)),
    Rule("SOLVER.AMP.ENABLED", ("train.amp.enabled",)),
    Rule("SOLVER.BASE_LR", ("optimizer.lr",)),
    Rule("SOLVER.MOMENTUM", ("optimizer.momentum",)),
    Rule("SOLVER.NESTEROV", ("optimizer.nesterov",)),
    Rule("SOLVER.WEIGHT_DECAY", ("optimizer.weight_decay",)),
    Rule("SOLVER.WEIGHT_DECAY_NORM", ("optimizer.params.weight_decay_norm",)),
    Rule("SOLVER.WEIGHT_DECAY_BIAS", ("optimizer.params.weight_decay_bias",)),
    Rule("SOLVER.BIAS_LR_FACTOR", ("optimizer.params.bias_lr_factor",)),
    Rule("SOLVER.WARMUP_FACTOR", ("lr_multiplier.warmup_factor",)),
    Rule("SOLVER.WARMUP_METHOD", ("lr_multiplier.warmup_method",)),
    Rule("SOLVER.IMS_PER_BATCH", (f"{_TRAIN}.total_batch_size",)),
    Rule("DATALOADER.NUM_WORKERS", (f"{_TRAIN}.num_workers", f"{_TEST}.num_workers")),
    Rule("DATALOADER.ASPECT_RATIO_GROUPING", (f"{_TRAIN}.aspect_ratio_grouping",)),
    Rule("DATALOADER.FILTER_EMPTY_ANNOTATIONS", (f"{_TRAIN}.dataset.filter_empty",)),
    Rule("DATASETS.TRAIN", (f"{_TRAIN}.dataset.names",), _one_or_list),
    Rule("DATASETS.TEST", (f"{_TEST}.dataset.names",), _one_or_list),
    Rule("INPUT.FORMAT", (f"{_TRAIN}.mapper.image_format", "model.input_format")),
    Rule("INPUT.MASK_FORMAT", (f"{_TRAIN}.mapper.instance_mask_format",)),
    Rule("INPUT.MIN_SIZE_TRAIN", (f"{_RESIZE}.short_edge_length",), list),
    Rule("INPUT.MIN_SIZE_TRAIN_SAMPLING", (f"{_RESIZE}.sample_style",), unset="range"),
    Rule("INPUT.MAX_SIZE_TRAIN", (f"{_RESIZE}.max_size",)),
    Rule("INPUT.MIN_SIZE_TEST", (f"{_RESIZE_TEST}.short_edge_length",)),
    Rule("INPUT.MAX_SIZE_TEST", (f"{_RESIZE_TEST}.max_size",)),
    Rule("MODEL.PIXEL_MEAN", ("model.pixel_mean",)),
    Rule("MODEL.PIXEL_STD", ("model.pixel_std",)),
]

_BACKBONE = [
    Rule("MODEL.BACKBONE.FREEZE_AT", (f"{_NET}.freeze_at",), unset=0),
    *_rules("MODEL.FPN", _FPN, {"OUT_CHANNELS": "out_channels", "NORM": "norm", "FUSE_TYPE": "fuse_type"}),
    *_rules(
        "MODEL.RESNETS",
        _NET,
        {
            "DEPTH": "stages.depth",
            "NORM": "stages.norm stem.norm",
            "STRIDE_IN_1X1": "stages.stride_in_1x1",
            "NUM_GROUPS": "stages.num_groups",
            "STEM_OUT_CHANNELS": "stem.out_channels",
            "OUT_FEATURES": "out_features",
        },
    ),
]

_PROPOSALS = [
    *_rules(
        "MODEL.RPN",
        _RPN,
        {
            "IN_FEATURES": "in_features",
            "IOU_THRESHOLDS": "anchor_matcher.thresholds",
            "IOU_LABELS": "anchor_matcher.labels",
            "BATCH_SIZE_PER_IMAGE": "batch_size_per_image",
            "POSITIVE_FRACTION": "positive_fraction",
            "PRE_NMS_TOPK_TRAIN": "pre_nms_topk.0",
            "PRE_NMS_TOPK_TEST": "pre_nms_topk.1",
            "POST_NMS_TOPK_TRAIN": "post_nms_topk.0",
            "POST_NMS_TOPK_TEST": "post_nms_topk.1",
            "NMS_THRESH": "nms_thresh",
            "BOUNDARY_THRESH": "anchor_boundary_thresh",
            "BBOX_REG_LOSS_TYPE": "box_reg_loss_type",
            "BBOX_REG_WEIGHTS": "box2box_transform.weights",
            "SMOOTH_L1_BETA": "smooth_l1_beta",
            "CONV_DIMS": "head.conv_dims",
        },
    ),
    Rule("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", (f"{_RPN}.min_box_size",)),
    Rule("MODEL.ANCHOR_GENERATOR.SIZES", (f"{_RPN}.anchor_generator.sizes",)),
    Rule("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", (f"{_RPN}.anchor_generator.aspect_ratios",), _inner),
    Rule("MODEL.ANCHOR_GENERATOR.OFFSET", (f"{_RPN}.anchor_generator.offset",)),
]

_HEADS = [
    *_rules(
        "MODEL.ROI_HEADS",
        _ROI,
        {
            "NUM_CLASSES": "num_classes",
            "IN_FEATURES": "box_in_features mask_in_features keypoint_in_features",
            "IOU_THRESHOLDS": "proposal_matcher.thresholds",
            "IOU_LABELS": "proposal_matcher.labels",
            "BATCH_SIZE_PER_IMAGE": "batch_size_per_image",
            "POSITIVE_FRACTION": "positive_fraction",
            "PROPOSAL_APPEND_GT": "proposal_append_gt",
            "SCORE_THRESH_TEST": "box_predictor.test_score_thresh",
            "NMS_THRESH_TEST": "box_predictor.test_nms_thresh",
        },
    ),
    Rule("TEST.DETECTIONS_PER_IMAGE", (f"{_ROI}.box_predictor.test_topk_per_image",)),
    *_rules(
        "MODEL.ROI_BOX_HEAD",
        _ROI,
        {
            "NORM": "box_head.conv_norm",
            "CLS_AGNOSTIC_BBOX_REG": "box_predictor.cls_agnostic_bbox_reg",
            "SMOOTH_L1_BETA": "box_predictor.smooth_l1_beta",
            "BBOX_REG_LOSS_TYPE": "box_predictor.box_reg_loss_type",
            "BBOX_REG_WEIGHTS": "box_predictor.box2box_transform.weights",
            "USE_SIGMOID_CE": "box_predictor.use_sigmoid_ce",
            "USE_FED_LOSS": "box_predictor.use_fed_loss",
            "FED_LOSS_NUM_CLASSES": "box_predictor.fed_loss_num_classes",
            "TRAIN_ON_PRED_BOXES": "train_on_pred_boxes",
        },
    ),
    *_pooler("ROI_BOX_HEAD", "box", "box_head"),
    *_rules("MODEL.ROI_MASK_HEAD", f"{_ROI}.mask_head", {"NORM": "conv_norm"}),
    *_pooler("ROI_MASK_HEAD", "mask", "mask_head"),
    *_pooler("ROI_KEYPOINT_HEAD", "keypoint", "keypoint_head"),
    *_rules(
        "MODEL.ROI_KEYPOINT_HEAD",
        f"{_ROI}.keypoint_head",
        {"NUM_KEYPOINTS": "num_keypoints", "CONV_DIMS": "conv_dims", "LOSS_WEIGHT": "loss_weight"},
    ),
    Rule("MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE", (f"{_TRAIN}.dataset.min_keypoints",)),
]

_OTHER = [
    *_rules(
        "MODEL.RETINANET",
        "model",
        {
            "NUM_CLASSES": "num_classes",
            "IN_FEATURES": "head_in_features",
            "IOU_THRESHOLDS": "anchor_matcher.thresholds",
            "IOU_LABELS": "anchor_matcher.labels",
            "PRIOR_PROB": "head.prior_prob",
            "NORM": "head.norm",
            "SCORE_THRESH_TEST": "test_score_thresh",
            "TOPK_CANDIDATES_TEST": "test_topk_candidates",
            "NMS_THRESH_TEST": "test_nms_thresh",
            "BBOX_REG_WEIGHTS": "box2box_transform.weights",
            "BBOX_REG_LOSS_TYPE": "box_reg_loss_type",
            "FOCAL_LOSS_GAMMA": "focal_loss_gamma",
            "FOCAL_LOSS_ALPHA": "focal_loss_alpha",
        },
    ),
    Rule("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", ("model.smooth_l1_beta",), unset=0.0),
    *_rules(
        "MODEL.SEM_SEG_HEAD",
        "model.sem_seg_head",
        {
            "IGNORE_VALUE": "ignore_value",
            "NUM_CLASSES": "num_classes",
            "CONVS_DIM": "conv_dims",
            "COMMON_STRIDE": "common_stride",
            "NORM": "norm",
            "LOSS_WEIGHT": "loss_weight",
        },
    ),
    *_rules(
        "MODEL.PANOPTIC_FPN",
        "model",
        {
            "COMBINE.OVERLAP_THRESH": "combine_overlap_thresh",
            "COMBINE.STUFF_AREA_LIMIT": "combine_stuff_area_thresh",
            "COMBINE.INSTANCES_CONFIDENCE_THRESH": "combine_instances_score_thresh",
        },
    ),
]

RULES: tuple[Rule, ...] = (*_GENERAL, *_BACKBONE, *_PROPOSALS, *_HEADS, *_OTHER)

# Keys that become part of something else: (keys, places, how). The conversion has code for them.
COMPOUND: tuple[tuple[str, str, str], ...] = (
    ("MODEL.META_ARCHITECTURE", "model._target_", "the class itself"),
    ("MODEL.BACKBONE.NAME", f"{_FPN}._target_", "the class itself"),
    ("MODEL.ROI_HEADS.NAME", f"{_ROI}._target_", "the class itself"),
    ("MODEL.FPN.IN_FEATURES", f"{_FPN}.in_features", "follows the backbone's out_features"),
    ("MODEL.MASK_ON", f"{_ROI}.mask_head", "there or not; and dataloader.train.mapper.use_instance_mask"),
    ("MODEL.KEYPOINT_ON", f"{_ROI}.keypoint_head", "there or not; and dataloader.train.mapper.use_keypoint"),
    ("MODEL.ROI_BOX_HEAD.NUM_CONV, CONV_DIM", f"{_ROI}.box_head.conv_dims", "[CONV_DIM] * NUM_CONV"),
    ("MODEL.ROI_BOX_HEAD.NUM_FC, FC_DIM", f"{_ROI}.box_head.fc_dims", "[FC_DIM] * NUM_FC"),
    ("MODEL.ROI_MASK_HEAD.NUM_CONV, CONV_DIM", f"{_ROI}.mask_head.conv_dims", "[CONV_DIM] * (NUM_CONV + 1)"),
    ("MODEL.RETINANET.NUM_CONVS", "model.head.conv_dims", "[channels] * NUM_CONVS"),
    ("MODEL.ROI_BOX_CASCADE_HEAD.IOUS", f"{_ROI}.proposal_matchers", "one matcher per stage"),
    ("MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS", f"{_ROI}.box_predictors", "one predictor per stage"),
    (
        "SOLVER.STEPS, GAMMA, MAX_ITER",
        "lr_multiplier.scheduler",
        "values are GAMMA ** i, the last milestone MAX_ITER",
    ),
    ("SOLVER.WARMUP_ITERS", "lr_multiplier.warmup_length", "WARMUP_ITERS / MAX_ITER"),
    (
        "SOLVER.LR_SCHEDULER_NAME",
        "lr_multiplier.scheduler._target_",
        "MultiStepParamScheduler, CosineParamScheduler",
    ),
    ("INPUT.RANDOM_FLIP", f"{_TRAIN}.mapper.augmentations", "a RandomFlip in the list"),
    ("INPUT.CROP", f"{_TRAIN}.mapper.augmentations", "a RandomCrop at the front of the list"),
    ("TEST.EXPECTED_RESULTS", "", "no place; check the returned results instead"),
    ("MODEL.RPN.LOSS_WEIGHT, BBOX_REG_LOSS_WEIGHT", f"{_RPN}.loss_weight", "a number per loss"),
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", f"{_ROI}.box_predictor.loss_weight", "a number per loss"),
)


def key_table() -> list[tuple[str, str, str]]:
    """Rows (yacs key, place in a Python config, note) for people, in the order of the table."""
    rows = [(rule.old, ", ".join(rule.new), "") for rule in RULES]
    return [*rows, *COMPOUND]
