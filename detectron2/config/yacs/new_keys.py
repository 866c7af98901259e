"""Keys of this package beyond those of Detectron2.

Each is declared with ``add_optional``: it can be read and set like any other, but is listed and dumped only when it
differs from its default. Configs that use none of them stay readable by Detectron2 itself.

To add a key: one ``add_optional`` line with a comment that says meaning, unit and default. A group of keys is a node
of its own, made by ``_group``.
"""

from typing import Any

from .cfg_node import BaseNode

__all__ = ["add_new_keys"]


def _group(parent: BaseNode, name: str, **keys: Any) -> None:
    """Declare the node ``name`` below ``parent`` with these keys and defaults, unless it is there."""
    if name not in parent:
        parent.add_optional(name, type(parent)())
    node = parent[name]
    for key, default in keys.items():
        node.add_optional(key, default)


def add_new_keys(cfg: BaseNode) -> None:
    """Declare all of them in ``cfg``."""
    # Share of the images that RandomSubsetTrainingSampler draws from, in (0, 1]; default 1: all of them.
    cfg.DATALOADER.add_optional("RANDOM_SUBSET_RATIO", 1.0)
    # One repeat factor per data set in DATASETS.TRAIN for WeightedTrainingSampler; default: 1 for each.
    cfg.DATASETS.add_optional("TRAIN_REPEAT_FACTOR", [])
    # Share of the images, 0 to 1, that a process may fail to read in training before the run stops; 0: the first.
    cfg.DATALOADER.add_optional("MAX_BROKEN_SHARE", 0.01)
    # How strongly ClassBalancedTrainingSampler balances: 1 fully, 0 not at all.
    cfg.DATALOADER.add_optional("CLASS_BALANCE_POWER", 1.0)
    # Share of the images drawn from each data set in DATASETS.TRAIN by MultiDatasetTrainingSampler, in proportion.
    cfg.DATASETS.add_optional("TRAIN_WEIGHTS", [])
    # What resizes images: "pillow" (the bytes that all published weights were trained on) or "torch", several times as
    # fast, antialiased alike, and one level off in 0.03 to 0.14 % of the values, as measured; default "pillow".
    cfg.INPUT.add_optional("RESIZE_BACKEND", "pillow")
    # Images made of several, before all other augmentations (docs/data.md). PROB: probability per image; 0: never.
    # Mosaic: (height, width) of the canvas, empty: the largest of MIN_SIZE_TRAIN; factors of the four images.
    _group(cfg.INPUT, "MOSAIC", PROB=0.0, SIZE=[], SCALE=(0.5, 1.5))
    # Mixup: parameter of the Beta distribution of the two weights.
    _group(cfg.INPUT, "MIXUP", PROB=0.0, ALPHA=8.0)
    # Copy-paste (MASK_FORMAT "bitmask" or "auto"): objects pasted at most (0: all), factors of the other image.
    _group(cfg.INPUT, "COPY_PASTE", PROB=0.0, MAX_OBJECTS=0, SCALE=(0.5, 1.0))
    # Last share of the training, 0 to 1, without these three; default 0: they are used to the end.
    cfg.INPUT.add_optional("MULTI_SAMPLE_CLOSE", 0.0)

    # ---- training (docs/training.md) ----
    # Seed everything and use deterministic operators only: equal runs on one device give equal bits.
    cfg.add_optional("DETERMINISTIC", False)
    solver = cfg.SOLVER
    # SGD, Adam or AdamW; the latter two read BETAS instead of MOMENTUM.
    solver.add_optional("OPTIMIZER", "SGD")
    solver.add_optional("BETAS", (0.9, 0.999))
    # [[regular expression, factor], ...]: learning rate of the parameters whose names match, as a multiple of BASE_LR.
    solver.add_optional("LR_FACTORS", [])
    # Factor on the learning rate from one block of the backbone to the one before it, in (0, 1]; 1: none.
    solver.add_optional("LAYER_DECAY", 1.0)
    # Exponent of LR_SCHEDULER_NAME WarmupPolynomialLR.
    solver.add_optional("POLY_POWER", 0.9)
    # LR_SCHEDULER_NAME OneCycleLR: share of the training that climbs, how far below BASE_LR it starts and ends.
    _group(solver, "ONE_CYCLE", UP_SHARE=0.3, START_DIVISOR=25.0, END_DIVISOR=1e4)
    # Batches whose gradients are summed before each optimizer step; one iteration is one step. 1: no accumulation.
    solver.add_optional("ACCUMULATE_STEPS", 1)
    # Measure how many images fit and take that for IMS_PER_BATCH: share of the free memory to fill, in (0, 1), and the
    # most images on each process.
    _group(solver, "AUTO_BATCH", ENABLED=False, SHARE=0.8, MAX=64)
    # dtype of mixed precision (AMP.ENABLED): float16 (with loss scaling) or bfloat16.
    solver.AMP.add_optional("DTYPE", "float16")
    # Moving average of the weights, and whether evaluation and the best checkpoint use it.
    _group(solver, "EMA", ENABLED=False, DECAY=0.999, EVALUATE=True)
    # torch.compile for these modules of the model ("" is the whole model), and its mode.
    _group(solver, "COMPILE", ENABLED=False, PARTS=["backbone"], MODE="default")
    # Keep weights and feature maps in channels-last order, which convolutions in low precision like.
    solver.add_optional("CHANNELS_LAST", False)
    # Regular expressions searched in parameter names; what matches does not learn.
    solver.add_optional("FREEZE", [])
    # Regular expressions for whole module names that recompute their activations in the backward pass.
    solver.add_optional("ACTIVATION_CHECKPOINT", [])
    # Iterations between two lines of figures.
    solver.add_optional("LOG_PERIOD", 20)
    # How many periodic checkpoints stay on disk; 0: all.
    solver.add_optional("CHECKPOINT_KEEP", 0)
    # Metric whose best value keeps model_best.pth, such as bbox/AP or val/total_loss (then MODE min); "": none.
    _group(solver, "BEST_CHECKPOINT", METRIC="", MODE="max")
    # Metric that ends the training after PATIENCE evaluations without an improvement of MIN_DELTA; "": none.
    _group(solver, "EARLY_STOPPING", METRIC="", MODE="max", PATIENCE=5, MIN_DELTA=0.0)
    # Steps with a loss that is not finite: how many may be skipped, and whether to keep their batch for replay.
    _group(solver, "NONFINITE", SKIP=0, KEEP_BATCH=True)
    # After running out of memory, try the batch again image by image.
    solver.add_optional("OOM_RETRY", False)
    # What --resume takes from the last checkpoint: resume (all), finetune (weights), restart-schedule (weights,
    # optimizer, EMA).
    solver.add_optional("RESUME_MODE", "resume")
    # Iterations between two report.html; -1: with each evaluation or else checkpoint; 0: never.
    solver.add_optional("REPORT_PERIOD", -1)
    # Options of DistributedDataParallel.
    _group(solver, "DDP", FIND_UNUSED_PARAMETERS=False, BROADCAST_BUFFERS=False, FP16_COMPRESSION=False)
    # Spread the model over the processes (FSDP2) instead of copying it to each: blocks of these modules are gathered
    # one at a time, all else together.
    _group(solver, "FSDP", ENABLED=False, PARTS=["backbone"])
    # Losses on DATASETS.TEST: iterations between two computations (0: never), batches at most (0: all).
    _group(cfg.TEST, "VAL_LOSS", PERIOD=0, MAX_BATCHES=0)
    # Where figures go besides metrics.json: progress bar (auto, on, off), TensorBoard, Weights & Biases, MLflow.
    _group(cfg, "WRITERS", PROGRESS_BAR="auto", TENSORBOARD=True)
    _group(cfg.WRITERS, "WANDB", ENABLED=False, PROJECT="detectron2")
    _group(cfg.WRITERS, "MLFLOW", ENABLED=False, EXPERIMENT="detectron2", URI="")
