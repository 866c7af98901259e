"""Keys that Detectron2 does not have.

Each is declared with ``add_optional``: it can be read and set like any other, but is listed and dumped only if it
differs from its default. Configs that use none of them stay readable by Detectron2 itself.

To add a training option, add a line to the table in ``training_options.py``. To add another key, add an
``add_optional`` line here with a comment that states meaning, unit and default; ``_group`` adds a node of several keys.
"""

import copy

from ..training_options import OPTIONS, Option
from .cfg_node import BaseNode

__all__ = ["add_new_keys"]


def _group(parent: BaseNode, name: str, **keys: object) -> None:
    """Declare keys with defaults in the node ``name`` of ``parent``, which is created if needed."""
    if name not in parent:
        parent.add_optional(name, type(parent)())
    node = parent[name]
    for key, default in keys.items():
        node.add_optional(key, default)


def _add_training_option(cfg: BaseNode, option: Option) -> None:
    """Declare an option of the table, unless it is a key of Detectron2."""
    *groups, name = option.key.split(".")
    node = cfg
    for group in groups:
        if group not in node:
            node.add_optional(group, type(cfg)())
        node = node[group]
    if name not in node:
        node.add_optional(name, copy.copy(option.default))


def add_new_keys(cfg: BaseNode) -> None:
    """Declare all additional keys in ``cfg``."""
    # Share of the images that RandomSubsetTrainingSampler draws from, in (0, 1]; default 1: all of them.
    cfg.DATALOADER.add_optional("RANDOM_SUBSET_RATIO", 1.0)
    # One repeat factor per data set in DATASETS.TRAIN for WeightedTrainingSampler; default: 1 for each.
    cfg.DATASETS.add_optional("TRAIN_REPEAT_FACTOR", [])
    # Share of unreadable images, 0 to 1, that a process tolerates in training before the run stops; 0: none.
    cfg.DATALOADER.add_optional("MAX_BROKEN_SHARE", 0.01)
    # "position": seed by the position of each image in the stream; "worker": once per worker, as in Detectron2.
    cfg.DATALOADER.add_optional("AUGMENTATION_SEED", "position")
    # How strongly ClassBalancedTrainingSampler balances: 1 fully, 0 not at all.
    cfg.DATALOADER.add_optional("CLASS_BALANCE_POWER", 1.0)
    # Share of the images drawn from each data set in DATASETS.TRAIN by MultiDatasetTrainingSampler, in proportion.
    cfg.DATASETS.add_optional("TRAIN_WEIGHTS", [])
    # Library that resizes images: "pillow" (gives the values that all published weights were trained on) or "torch",
    # which is several times as fast; 0.03 to 0.14 % of the values were measured to differ by one level.
    cfg.INPUT.add_optional("RESIZE_BACKEND", "pillow")
    # [[height, width], ...] in pixels: batches are padded to the first that they fit into; default: as little as possible.
    cfg.INPUT.add_optional("FIXED_SIZE", [])
    # R-CNN models with FPN train and predict in the fast form (docs/performance.md).
    cfg.MODEL.add_optional("FIXED_SHAPES", False)
    # Combinations of several images, before all other augmentations (docs/data.md). PROB: probability per image; 0: never.
    # Mosaic: (height, width) of the canvas, empty: the largest of MIN_SIZE_TRAIN; factors of the four images.
    _group(cfg.INPUT, "MOSAIC", PROB=0.0, SIZE=[], SCALE=(0.5, 1.5))
    # Mixup: parameter of the Beta distribution of the two weights.
    _group(cfg.INPUT, "MIXUP", PROB=0.0, ALPHA=8.0)
    # Copy-paste (MASK_FORMAT "bitmask" or "auto"): maximum number of objects (0: all), factors of the other image.
    _group(cfg.INPUT, "COPY_PASTE", PROB=0.0, MAX_OBJECTS=0, SCALE=(0.5, 1.0))
    # Share of the training, 0 to 1, at its end without these three; default 0: they are used to the end.
    cfg.INPUT.add_optional("MULTI_SAMPLE_CLOSE", 0.0)

    # Network of timm for MODEL.BACKBONE.NAME timm_backbone, timm_fpn_backbone and timm_simple_pyramid_backbone: its name,
    # whether its weights are downloaded, its maps, whether it learns; size of square images (Hiera) in pixels, 0: timm's or
    # the builder's; rate of stochastic depth.
    maps = ["res2", "res3", "res4", "res5"]
    _group(
        cfg.MODEL,
        "TIMM",
        NAME="resnet50",
        PRETRAINED=False,
        OUT_FEATURES=maps,
        FREEZE=False,
        IMG_SIZE=0,
        DROP_PATH_RATE=0.0,
    )

    # Soft-NMS for the detections of R-CNN models: METHOD linear, gaussian or naive (equal to NMS); minimum IoU at which
    # linear acts; width of the Gaussian; scores below MIN_SCORE are dropped; CLASS_WISE: each class separately.
    _group(
        cfg.TEST,
        "SOFT_NMS",
        ENABLED=False,
        METHOD="linear",
        IOU_THRESH=0.3,
        SIGMA=0.5,
        MIN_SCORE=1e-3,
        CLASS_WISE=True,
    )

    # Solver settings that a Python config expresses by naming classes.
    solver = cfg.SOLVER
    # SGD, Adam or AdamW; the latter two read BETAS instead of MOMENTUM.
    solver.add_optional("OPTIMIZER", "SGD")
    solver.add_optional("BETAS", (0.9, 0.999))
    # One kernel for a whole step of the optimizer.
    solver.add_optional("FUSED", False)
    # [[regular expression, factor], ...]: learning rate of the parameters whose names match, as a multiple of BASE_LR.
    solver.add_optional("LR_FACTORS", [])
    # Factor on the learning rate from one block of the backbone to the one before it, in (0, 1]; 1: none.
    solver.add_optional("LAYER_DECAY", 1.0)
    # Exponent of LR_SCHEDULER_NAME WarmupPolynomialLR.
    solver.add_optional("POLY_POWER", 0.9)
    # LR_SCHEDULER_NAME OneCycleLR: rising share of the training, factors by which it starts and ends below BASE_LR.
    _group(solver, "ONE_CYCLE", UP_SHARE=0.3, START_DIVISOR=25.0, END_DIVISOR=1e4)

    for option in OPTIONS.values():
        _add_training_option(cfg, option)
