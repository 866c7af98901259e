"""`detectron2 train`: data check, recipe, training, evaluation, report."""

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision

from detectron2 import __version__
from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.reports import write_training_report
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from ._check import check_data
from ._datasets import classes_of, find_coco, register, split
from ._errors import UserError
from ._evaluate import evaluate_run
from ._recipe import best_device, find_model, from_scratch, recipe, starting_weights
from ._run_folder import RunCard, read_run
from ._trainer import RunTrainer

__all__ = ["run", "train"]


def run(args: argparse.Namespace) -> int:
    """Train as the command line says."""
    start = time.perf_counter()
    if args.resume and args.output and (Path(args.output) / "run.json").is_file():
        folder, card = Path(args.output), read_run(args.output)
        cfg = _saved_config(folder)
    else:
        if args.train is None:
            raise UserError("--train DATA is needed (only --resume with the --output of a run goes without)")
        folder, card, cfg = _prepare(args)
    train(cfg, card, folder, resume=args.resume, num_gpus=args.num_gpus, start=start)
    return 0


def _prepare(args: argparse.Namespace) -> tuple[Path, RunCard, CfgNode]:
    """Find and check the data, choose the config, and write both into the folder of the run."""
    config_file, zoo_name = find_model(args.model)
    card = _card(args)
    folder = Path(args.output or f"runs/{Path(card.train.json).stem}-{Path(args.model).stem}")
    if (folder / "run.json").is_file() and not args.resume:
        raise UserError(f"{folder} already holds a run: go on with --resume, or name another --output")
    setup_logger(str(folder))
    card.health = check_data(card, skip=args.skip_defects)
    cfg = recipe(
        config_file,
        num_classes=len(card.classes),
        num_images=card.train.num_images,
        epochs=args.epochs,
        batch_size=args.batch_size,
        workers=args.workers,
        device=args.device or best_device(),
        num_gpus=args.num_gpus,
    )
    cfg.MODEL.WEIGHTS = starting_weights(cfg, zoo_name, args.weights, PathManager.get_local_path)
    if not cfg.MODEL.WEIGHTS:
        from_scratch(cfg)
    cfg.SEED = args.seed
    cfg.OUTPUT_DIR = str(folder)
    cfg.merge_from_list(args.opts)
    card.weights = cfg.MODEL.WEIGHTS
    folder.mkdir(parents=True, exist_ok=True)
    card.save(folder)
    (folder / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    return folder, card, cfg


def _card(args: argparse.Namespace) -> RunCard:
    train_data = find_coco(args.train, args.train_images)
    classes, ids = classes_of(train_data)
    if args.val:
        val_data = find_coco(args.val, args.val_images)
    else:
        train_data, val_data = split(train_data)
    return RunCard(
        model=args.model,
        classes=classes,
        category_ids=ids,
        train=train_data,
        val=val_data,
        seed=args.seed,
        versions=versions(),
        command=["detectron2", *sys.argv[1:]],
    )


def _saved_config(folder: Path) -> CfgNode:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    cfg.OUTPUT_DIR = str(folder)
    return cfg


def versions() -> dict[str, str]:
    """Versions that decide a run's figures."""
    return {
        "detectron2": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "Python": platform.python_version(),
        "platform": platform.platform(),
    }


def train(
    cfg: CfgNode, card: RunCard, folder: Path, *, resume: bool, num_gpus: int = 1, start: float | None = None
) -> None:
    """Train, keep the best weights, evaluate, and write the report.

    Args:
        cfg: resolved config, its data sets being TRAIN and VAL.
        card: card of the run.
        folder: its folder.
        resume: go on from the last whole checkpoint.
        num_gpus: processes.
        start: `time.perf_counter()` of the moment that "seconds" in the summary counts from.
    """
    start = time.perf_counter() if start is None else start
    cfg.freeze()
    launch(_worker, num_gpus, dist_url="auto", args=(cfg, card, resume))
    register(card.train, card.val, card.classes, card.category_ids)
    evaluate_run(cfg, card, folder, seconds_since=start)
    page = write_training_report(folder)
    setup_logger(name="detectron2").info("Report: %s", page)


def _worker(cfg: CfgNode, card: RunCard, resume: bool) -> None:
    """One process of training."""
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank())
    register(card.train, card.val, card.classes, card.category_ids)
    trainer = RunTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
