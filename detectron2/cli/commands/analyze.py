"""``detectron2 analyze``: what a model costs, module by module."""

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.load_report import require_weights
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from detectron2.engine.run_config import RunConfig, load_run_config
from detectron2.engine.run_folder import read_run, weights_of
from detectron2.model_zoo.listing import find_model
from detectron2.reports.model_costs import cost_picture, cost_table
from detectron2.utils.analysis import run_once
from detectron2.utils.file_io.atomic import atomic_write, write_json
from detectron2.utils.image_io import READ_ERRORS
from detectron2.utils.logger import setup_logger
from detectron2.utils.profiling import profile_modules, settle_random_weights

from ..errors import UserError
from ..run.datasets import register
from ..run.recipe import chosen_device

__all__ = ["run"]

COMMON_SIZE = (480, 640)  # of most images of COCO


def run(args: argparse.Namespace) -> int:
    """Build the model, run it on an image, and print and draw what each module costs."""
    setup_logger(name="detectron2").setLevel(logging.WARNING)  # the table is the answer
    config, is_run = _config(args)
    weights = weights_of(args.model, args.weights or "best") if is_run else args.weights
    model = _model(config, weights, args.model)
    item = _input(config, model, args)
    if not weights:
        settle_random_weights(model, [item])
    found = _count_found(model, item)
    costs = profile_modules(model, [item], rounds=args.rounds, depth=args.depth)
    height, width = item["image"].shape[1:]
    facts = {
        "model": args.model,
        "input": args.image or "random values",
        "input_size": [int(height), int(width)],
        "device": config.options.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": args.rounds,
        "weights": weights or "random",
        "objects_found": found,
    }
    title = f"{args.model}: {height} x {width} pixels, {facts['device']}, torch {torch.__version__}"
    title += "" if found is None else f", {found} objects found"
    report = {**facts, "modules": [{**asdict(c), "name": c.name or "(whole model)"} for c in costs]}
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print(f"{title}\n\n{cost_table(costs)}")
    folder = _folder(args, is_run)
    if folder is not None:
        write_json(folder / "analysis.json", report)
        with atomic_write(str(folder / "analysis.svg"), "wb") as file:
            file.write(cost_picture(costs, title).encode())
        if not args.json:
            print(f"\nsee {folder / 'analysis.svg'}")
    return 0


def _folder(args: argparse.Namespace, is_run: bool) -> Path | None:
    """Return where to write; None when only JSON is printed."""
    if args.json and not args.output:
        return None
    folder = Path(args.output or (Path(args.model) / "analysis" if is_run else "analysis"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _config(args: argparse.Namespace) -> tuple[RunConfig, bool]:
    """Load the config of a run, of a file or of the zoo."""
    folder = Path(args.model)
    is_run = (folder / "run.json").is_file()
    if folder.is_dir() and not is_run:
        raise UserError(f"{folder} is not the folder of a run: it has no run.json")
    path = str(folder / "config.yaml") if is_run else find_model(args.model)[0]
    config = load_run_config(path, args.opts).in_this_process()
    if is_run:
        register(read_run(folder), train=False)
    config.put(device=chosen_device(args.device))
    return config, is_run


def _model(config: RunConfig, weights: str | None, name: str) -> nn.Module:
    """Build the model, with random weights if none are given, which are the same each time."""
    torch.manual_seed(0)
    model = config.model().eval()
    if weights:
        saver = DetectionCheckpointer(model)
        saver.load(weights)
        require_weights(saver.last_report, name)
    return model


def _count_found(model: nn.Module, item: dict[str, Any]) -> int | None:
    """Return how many objects the model finds, as its heads work on those; None if it finds regions or no objects."""
    output = run_once(model, [item])
    first = output[0] if isinstance(output, (list, tuple)) and output else None
    return len(first["instances"]) if isinstance(first, dict) and "instances" in first else None


def _input(config: RunConfig, model: nn.Module, args: argparse.Namespace) -> dict[str, Any]:
    """Return what the model is run on: a given image or random values, resized as for testing unless a size is given."""
    size = tuple(args.input_size) if args.input_size else None
    if size and min(size) < 1:
        raise UserError(f"--input-size must be two positive numbers, got {size[0]} {size[1]}")
    if args.image:
        try:
            pixels: npt.NDArray = read_image(args.image, config.input_format)
        except READ_ERRORS as error:
            raise UserError(f"--image {args.image} cannot be read: {error}") from error
    else:
        mean = getattr(model, "pixel_mean", None)
        channels = 3 if mean is None else int(mean.numel())
        shape = (*(size or COMMON_SIZE), channels)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    height, width = pixels.shape[:2]
    data = T.AugInput(pixels)
    if size is None:
        config.test_augmentation()(data)
    elif (height, width) != size:
        data.transform(T.ResizeTransform(height, width, *size))
    tensor = torch.as_tensor(np.ascontiguousarray(data.image.transpose(2, 0, 1)).astype("float32"))
    return {"image": tensor, "height": height, "width": width}
