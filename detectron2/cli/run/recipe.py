"""From a model's name and the size of the data to a config that trains it well."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.engine.run_config.settings import is_lazy
from detectron2.model_zoo.listing import find_config
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from .config_files import load_config, put
from .datasets import TRAIN, VAL
from .recipe_lazy import fit_lazy, from_scratch_lazy, set_classes_lazy

__all__ = ["Plan", "best_device", "find_model", "from_scratch", "length_of", "recipe", "starting_weights"]

MIN_ITERATIONS = 300
REFERENCE_IMAGES = 118_287  # images of COCO train2017, which the zoo's schedules were made for


@dataclass(frozen=True)
class Plan:
    """What the data and the command line say about a training.

    Attributes:
        num_classes: classes of the data.
        num_images: training images.
        epochs: passes over the data; None for as many as the zoo's schedule makes over its own.
        batch_size: images a step, all devices together; None for two a device.
        workers: loader processes; None for one less than the processors, at most four.
        device: device name.
        num_gpus: processes.
    """

    num_classes: int
    num_images: int
    epochs: float | None = None
    batch_size: int | None = None
    workers: int | None = None
    device: str = "cpu"
    num_gpus: int = 1


def best_device() -> str:
    """The fastest device of this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_model(name: str) -> tuple[str, str | None]:
    """Find the config that a name on the command line means.

    Args:
        name: a config file; or a name in the model zoo, with or without its folder and suffix.

    Returns:
        The config file, and its name in the model zoo (None for a file of the user's).

    Raises:
        UserError: nothing has that name, or several have.
    """
    if Path(name).is_file():
        return name, None
    try:
        found = find_config(name)
    except (KeyError, RuntimeError, ValueError) as error:
        text = error.args[0] if error.args else error
        raise UserError(f"{text} It is no file either (`detectron2 zoo` lists the zoo).") from None
    return model_zoo.get_config_file(found), found


def recipe(config_file: str, plan: Plan) -> Any:
    """A config for a model on given data: batch, learning rate, length and evaluation fitted to them.

    The length is the zoo's number of passes over its data, at least MIN_ITERATIONS steps; the learning rate follows
    the batch linearly (Goyal et al., https://arxiv.org/abs/1706.02677); decay steps and warm-up keep their shares of
    the run. A config that names no data sets was made for these data and keeps its own schedule, unless the plan
    says otherwise. Overrides come after.

    Args:
        config_file: of either kind.
        plan: what to fit it to.

    Returns:
        A `CfgNode` or a LazyConfig, as the file is.
    """
    if plan.batch_size and plan.batch_size % max(plan.num_gpus, 1):
        raise UserError(f"--batch-size {plan.batch_size} is not a multiple of --num-gpus {plan.num_gpus}")
    workers = min(max((os.cpu_count() or 1) - 1, 0), 4) if plan.workers is None else plan.workers
    batch = plan.batch_size or 2 * max(plan.num_gpus, 1)
    cfg = load_config(config_file)
    put(cfg, device=plan.device)
    if is_lazy(cfg):
        set_classes_lazy(cfg, plan.num_classes)
        old_batch, old_length = int(cfg.dataloader.train.total_batch_size), int(cfg.train.max_iter)
        steps = length_of(plan, batch, old_batch, old_length)
        fit_lazy(cfg, batch, workers, steps, names=(TRAIN, VAL))
        masks = "mask_head" in cfg.model.get("roi_heads", {})
    else:
        masks = cfg.MODEL.MASK_ON
        _fit_yacs(cfg, plan, batch, workers)
    put(cfg, best_metric="segm/AP" if masks else "bbox/AP")
    return cfg


def length_of(plan: Plan, batch: int, old_batch: int, old_length: int) -> int:
    """Steps of a training whose zoo schedule has `old_length` steps of `old_batch` images."""
    passes = plan.epochs if plan.epochs is not None else old_length * old_batch / REFERENCE_IMAGES
    steps = math.ceil(passes * plan.num_images / batch)
    return max(steps, 1) if plan.epochs is not None else max(steps, MIN_ITERATIONS)


def _fit_yacs(cfg: CfgNode, plan: Plan, batch: int, workers: int) -> None:
    made_for_it = not cfg.DATASETS.TRAIN
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (TRAIN,), (VAL,)
    cfg.DATALOADER.NUM_WORKERS = workers
    for head in (cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET):
        head.NUM_CLASSES = plan.num_classes
    if not made_for_it:  # nothing depends on Pillow's very bytes here, and they take twice the time
        cfg.INPUT.RESIZE_BACKEND = "torch"
    if made_for_it and plan.epochs is None and plan.batch_size is None:
        return
    solver = cfg.SOLVER
    old_batch, old = solver.IMS_PER_BATCH, solver.MAX_ITER
    steps = length_of(plan, batch, old_batch, old)
    solver.STEPS = tuple(
        dict.fromkeys(s for s in (round(s * steps / old) for s in solver.STEPS) if 0 < s < steps)
    )
    solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, max(steps // 10, 1))
    solver.BASE_LR = solver.BASE_LR * batch / old_batch
    solver.IMS_PER_BATCH = batch
    put(cfg, max_iter=steps, eval_period=max(steps // 5, 1), checkpoint_period=max(steps // 10, 1))


def starting_weights(cfg: Any, zoo_name: str | None, which: str, load: Callable[[str], Any]) -> str:
    """Choose what training starts from, and fetch it now, so that a missing network is known before the first step.

    Args:
        cfg: config; its weights are the pre-trained backbone.
        zoo_name: name of the config in the zoo, if it is there.
        which: "auto", "zoo", "backbone", "none", or a path or URL.
        load: brings a path or URL to a local file; raises OSError when it cannot.

    Returns:
        A path or URL; "" to start from random weights.
    """
    if which == "none":
        return ""
    if which not in ("auto", "zoo", "backbone"):
        load(which)
        return which
    problems = []
    for url in _candidates(cfg, zoo_name, which):
        try:
            load(url)
            return url
        except OSError as error:
            problems.append(f"{url}: {error}")
    if which != "auto":
        raise UserError(
            "cannot fetch the weights asked for: " + ("; ".join(problems) or "the config names none")
        )
    if problems:
        setup_logger(name="detectron2").warning(
            "Pre-trained weights cannot be fetched, so the model starts from random weights and will need a longer "
            "training for a lower result. (%s) Give a local file with --weights FILE.",
            "; ".join(problems),
        )
    return ""


def _candidates(cfg: Any, zoo_name: str | None, which: str) -> list[str]:
    """Weights to try, best first."""
    found = []
    if which in ("auto", "zoo") and zoo_name is not None:
        try:
            found.append(model_zoo.get_checkpoint_url(zoo_name))
        except (RuntimeError, KeyError, ValueError):
            if which == "zoo":
                raise UserError(f"the zoo has no trained weights for {zoo_name}") from None
    backbone = cfg.train.get("init_checkpoint", "") if is_lazy(cfg) else cfg.MODEL.WEIGHTS
    if which in ("auto", "backbone") and backbone:
        found.append(backbone)
    return found


def from_scratch(cfg: Any) -> None:
    """Make a config fit for random weights: frozen layers and frozen statistics only make sense when pre-trained."""
    if is_lazy(cfg):
        from_scratch_lazy(cfg)
        return
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    if cfg.MODEL.RESNETS.NORM == "FrozenBN":
        cfg.MODEL.RESNETS.NORM = "BN"
