"""Fit a model's config to the size of the data."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from detectron2 import model_zoo
from detectron2.engine.run_config import RunConfig, load_run_config
from detectron2.engine.run_config.lengths import parse_length
from detectron2.utils.device import best_device, check_device
from detectron2.utils.errors import DeviceError
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from .datasets import TRAIN, VAL

__all__ = ["Plan", "chosen_device", "length_of", "recipe", "starting_weights"]

MIN_ITERATIONS = 300
VALIDATION_IMAGES = 50  # of which the validation loss is computed at each evaluation
REFERENCE_IMAGES = 118_287  # images of COCO train2017, for which the zoo's schedules were made


@dataclass(frozen=True)
class Plan:
    """Settings of a training that come from the data and the command line.

    Attributes:
        num_classes: number of classes.
        num_images: number of training images.
        epochs: passes over the data; None = as many as the zoo's schedule makes over its own data.
        batch_size: images per step on all devices together; None = two per device.
        workers: loader processes; None = one less than the CPU cores, at most four.
        device: device name.
        num_gpus: number of processes.
    """

    num_classes: int
    num_images: int
    epochs: float | None = None
    batch_size: int | None = None
    workers: int | None = None
    device: str = "cpu"
    num_gpus: int = 1


def chosen_device(name: str | None, num_gpus: int = 1) -> str:
    """Return the requested device, or the best available one.

    Raises:
        DeviceError: this machine lacks the device, or has fewer than ``num_gpus``.
    """
    device = check_device(name or best_device(), "--device")
    if device.type == "cuda" and num_gpus > torch.cuda.device_count():
        raise DeviceError(
            f"--num-gpus is {num_gpus}, but torch sees {torch.cuda.device_count()} CUDA devices"
        )
    return str(device)


def recipe(config_file: str, plan: Plan) -> RunConfig:
    """Fit batch, learning rate, length and evaluation of a model's config to the data.

    The length is the zoo's number of passes over its data, at least MIN_ITERATIONS steps. The learning rate grows with
    the batch (Goyal et al., https://arxiv.org/abs/1706.02677); with Adam and AdamW it grows with the square root of the
    batch (Malladi et al., https://arxiv.org/abs/2205.10287). Decay steps keep their relative positions in the run; the
    warm-up keeps its length, up to a tenth of the run. A config that names no datasets was made for this data and keeps
    its own schedule, unless the plan says otherwise.

    Args:
        config_file: a YAML or Python config.
        plan: settings to fit it to.
    """
    if plan.batch_size and plan.batch_size % max(plan.num_gpus, 1):
        raise UserError(f"--batch-size {plan.batch_size} is not a multiple of --num-gpus {plan.num_gpus}")
    workers = min(max((os.cpu_count() or 1) - 1, 0), 4) if plan.workers is None else plan.workers
    run = load_run_config(config_file)
    run.put(device=plan.device, best_metric="segm/AP" if run.predicts_masks else "bbox/AP")
    made_for_it = not run.dataset_names("train")
    run.set_data(TRAIN, VAL, plan.num_classes, workers)
    if made_for_it and plan.epochs is None and plan.batch_size is None:
        return run
    batch = plan.batch_size or 2 * max(plan.num_gpus, 1)
    steps = length_of(plan, batch, run.batch_size, parse_length(run.options.max_iter, None))
    warmup, old_batch = run.warmup, run.batch_size
    run = run.rescaled(batch, steps)
    if _is_adaptive(run):
        run.set(run.rate_path, run.get(run.rate_path) * math.sqrt(old_batch / batch))
    run.warmup = min(warmup, max(steps / 10, 1))
    run.put(eval_period=max(steps // 5, 1), checkpoint_period=max(steps // 10, 1))
    run.put(val_loss_period=max(steps // 5, 1), val_loss_batches=VALIDATION_IMAGES)
    return run


def _is_adaptive(run: RunConfig) -> bool:
    """Return whether the optimizer divides gradients by their size, so that its steps do not grow with the batch."""
    name = run.get("SOLVER.OPTIMIZER") or run.get("optimizer._target_") or ""
    return "adam" in str(name).lower()


def length_of(plan: Plan, batch: int, old_batch: int, old_length: int) -> int:
    """Return the steps of a training whose zoo schedule has ``old_length`` steps of ``old_batch`` images."""
    passes = plan.epochs if plan.epochs is not None else old_length * old_batch / REFERENCE_IMAGES
    steps = math.ceil(passes * plan.num_images / batch)
    return max(steps, 1) if plan.epochs is not None else max(steps, MIN_ITERATIONS)


def starting_weights(own: str, zoo_name: str | None, which: str, load: Callable[[str], object]) -> str:
    """Choose the initial weights and fetch them now, so that a missing network shows before the first step.

    Args:
        own: pre-trained backbone that the config names; "" = none.
        zoo_name: name of the config in the zoo; None = not in the zoo.
        which: "auto", "zoo", "backbone", "none", or a path or URL.
        load: fetches a path or URL into a local file; raises OSError on failure.

    Returns:
        A path or URL; "" = random weights.
    """
    if which == "none":
        return ""
    if which not in ("auto", "zoo", "backbone"):
        load(which)
        return which
    problems = []
    for url in _candidates(own, zoo_name, which):
        try:
            load(url)
            return url
        except OSError as error:
            problems.append(f"{url}: {error}")
    if which != "auto":
        raise UserError(
            "cannot fetch the requested weights: " + ("; ".join(problems) or "the config names none")
        )
    if problems:
        setup_logger(name="detectron2").warning(
            "Cannot fetch pre-trained weights (%s). The model starts from random weights, which needs longer training "
            "and gives lower results. Give a local file with --weights FILE.",
            "; ".join(problems),
        )
    return ""


def _candidates(own: str, zoo_name: str | None, which: str) -> list[str]:
    """Return the weights to try, best first."""
    found = []
    if which in ("auto", "zoo") and zoo_name is not None:
        try:
            found.append(model_zoo.get_checkpoint_url(zoo_name))
        except (RuntimeError, KeyError, ValueError):
            if which == "zoo":
                raise UserError(f"the zoo has no trained weights for {zoo_name}") from None
    if which in ("auto", "backbone") and own:
        found.append(own)
    return found
