"""From a model's name and the size of the data to a config that trains it well."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.utils.logger import setup_logger
from detectron2.utils.suggest import closest

from ._datasets import TRAIN, VAL
from ._errors import UserError

__all__ = ["best_device", "find_model", "recipe", "set_classes", "starting_weights"]

MIN_ITERATIONS = 300
REFERENCE_IMAGES = 118_287  # images of COCO train2017, which the zoo's schedules were made for


def best_device() -> str:
    """The fastest device of this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_model(name: str) -> tuple[str, str | None]:
    """Find the config that a name on the command line means.

    Args:
        name: a config file; or a path in the model zoo, with or without its folder and suffix.

    Returns:
        The config file, and its name in the model zoo (None for a file of the user's).

    Raises:
        UserError: nothing has that name, or several have.
    """
    if Path(name).is_file():
        return name, None
    known = _zoo_names()
    exact = [n for n in known if name in (n, os.path.splitext(n)[0])]
    same = exact or [n for n in known if os.path.splitext(os.path.basename(n))[0] == Path(name).stem]
    if not same:
        near = closest(name, [os.path.splitext(os.path.basename(n))[0] for n in known])
        hint = f"; close names: {', '.join(near)}" if near else ""
        raise UserError(f"no model {name!r} in the model zoo, and no such file{hint} (`detectron2 zoo` lists them)")
    if len(same) > 1:  # LVIS, Cityscapes and the like share file names with COCO
        same = [n for n in same if n.startswith("COCO-")] or same
    if len(same) > 1:
        raise UserError(f"{name!r} may mean {' or '.join(same)}; give one of these")
    return model_zoo.get_config_file(same[0]), same[0]


def _zoo_names() -> list[str]:
    root = Path(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")).parents[1]
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix in (".yaml", ".py"))


def recipe(
    config_file: str,
    *,
    num_classes: int,
    num_images: int,
    epochs: float | None,
    batch_size: int | None,
    workers: int | None,
    device: str,
    num_gpus: int,
) -> CfgNode:
    """A config for this model on these data: batch, learning rate, length and evaluation fitted to them.

    The length is the zoo's number of passes over its data, at least MIN_ITERATIONS steps; the learning rate follows
    the batch linearly (Goyal et al., https://arxiv.org/abs/1706.02677); decay steps and warm-up keep their shares of
    the run. A config with data sets of its own size may fix any of these; overrides come after.

    Args:
        config_file: YAML config.
        num_classes: classes of the data.
        num_images: training images.
        epochs: passes over the data; None for the rule above.
        batch_size: images a step; None for two a device.
        workers: loader processes; None for one less than the processors, at most four.
        device: device name.
        num_gpus: processes.
    """
    cfg = get_cfg()
    cfg.merge_from_file(config_file)
    own_length = cfg.DATASETS.TRAIN == ()  # a config for given data, such as the quickstart's, keeps its schedule
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (TRAIN,), (VAL,)
    cfg.MODEL.DEVICE = device
    cfg.DATALOADER.NUM_WORKERS = min(max((os.cpu_count() or 1) - 1, 0), 4) if workers is None else workers
    set_classes(cfg, num_classes)
    cfg.SOLVER.BEST_CHECKPOINT.METRIC = "segm/AP" if cfg.MODEL.MASK_ON else "bbox/AP"
    if own_length and epochs is None and batch_size is None:
        return cfg
    old_batch, old_length = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER
    batch = batch_size or 2 * max(num_gpus, 1)
    if batch % max(num_gpus, 1):
        raise UserError(f"--batch-size {batch} is not a multiple of --num-gpus {num_gpus}")
    passes = epochs if epochs is not None else old_length * old_batch / REFERENCE_IMAGES
    steps = math.ceil(passes * num_images / batch)
    _set_length(cfg, steps if epochs is not None else max(steps, MIN_ITERATIONS), old_length)
    cfg.SOLVER.BASE_LR = cfg.SOLVER.BASE_LR * batch / old_batch
    cfg.SOLVER.IMS_PER_BATCH = batch
    return cfg


def _set_length(cfg: CfgNode, steps: int, old: int) -> None:
    """Set the number of steps; decay steps, warm-up and evaluations keep their share of the run."""
    solver = cfg.SOLVER
    solver.STEPS = tuple(dict.fromkeys(s for s in (round(s * steps / old) for s in solver.STEPS) if 0 < s < steps))
    solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, max(steps // 10, 1))
    solver.MAX_ITER = steps
    cfg.TEST.EVAL_PERIOD = max(steps // 5, 1)
    solver.CHECKPOINT_PERIOD = max(steps // 10, 1)


def set_classes(cfg: CfgNode, count: int) -> None:
    """Set the number of thing classes of every head."""
    for head in (cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET):
        head.NUM_CLASSES = count


def starting_weights(cfg: CfgNode, zoo_name: str | None, which: str, load: Callable[[str], Any]) -> str:
    """Choose what training starts from, and fetch it now, so that a missing network is known before the first step.

    Args:
        cfg: config; its MODEL.WEIGHTS is the pre-trained backbone.
        zoo_name: name of the config in the zoo, if it is there.
        which: "auto", "zoo", "backbone", "none", or a path or URL.
        load: brings a path or URL to a local file; raises OSError when it cannot.

    Returns:
        Text for MODEL.WEIGHTS: "" to start from nothing.
    """
    logger = setup_logger(name="detectron2")
    if which == "none":
        return ""
    if which not in ("auto", "zoo", "backbone"):
        load(which)
        return which
    candidates = []
    if which in ("auto", "zoo") and zoo_name is not None:
        try:
            candidates.append(model_zoo.get_checkpoint_url(zoo_name))
        except (RuntimeError, KeyError, ValueError):
            if which == "zoo":
                raise UserError(f"the zoo has no trained weights for {zoo_name}") from None
    if which in ("auto", "backbone") and cfg.MODEL.WEIGHTS:
        candidates.append(cfg.MODEL.WEIGHTS)
    problems = []
    for url in candidates:
        try:
            load(url)
            return url
        except OSError as error:
            problems.append(f"{url}: {error}")
    if which != "auto":
        raise UserError("cannot fetch the weights asked for: " + "; ".join(problems))
    if problems:
        logger.warning(
            "Pre-trained weights cannot be fetched, so the model starts from random weights and will need a longer "
            "training for a lower result. (%s) Give a local file with --weights FILE.",
            "; ".join(problems),
        )
    return ""


def from_scratch(cfg: CfgNode) -> None:
    """Make a config fit for random weights: frozen layers and frozen statistics only make sense when pre-trained."""
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    if cfg.MODEL.RESNETS.NORM == "FrozenBN":
        cfg.MODEL.RESNETS.NORM = "BN"
