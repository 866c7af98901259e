"""``detectron2 train``: data check, recipe, training, evaluation, report."""

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from detectron2 import __version__
from detectron2.config.python.targets import UntrustedTargetError
from detectron2.data.formats import DataPlan, label_facts, plan_training
from detectron2.data.formats.pixels import PixelTask
from detectron2.engine import DefaultTrainer, launch
from detectron2.engine.on_ray import RayReport
from detectron2.engine.run_config import RunConfig, load_run_config
from detectron2.engine.run_config.lengths import parse_length
from detectron2.engine.run_folder import RunCard, read_run, weights_of
from detectron2.engine.setup import set_backends
from detectron2.engine.train_loop import HookBase
from detectron2.model_zoo.listing import find_model
from detectron2.reports import write_training_report
from detectron2.utils import comm
from detectron2.utils.device import check_device
from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.lock import folder_lock
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from ..run.datasets import register, store
from ..run.dense import fit_dense
from ..run.evaluation import evaluate_run, figures
from ..run.fast import fit_fast
from ..run.folder import fresh_folder, has_begun, remove_run
from ..run.model_card import write_card
from ..run.model_fit import default_model, fit_labels, fit_model, model_kinds
from ..run.on_ray import RayEngine, ray_engine, remote_parts
from ..run.pixels import fit_pixels, pixel_task
from ..run.plan import ExpectedTime, say_plan, schedule_text, source_of
from ..run.recipe import Plan, chosen_device, recipe, starting_weights
from ..run.tiles import cut_parts, fit_tiles, most_detections, of_any_size, tile_options
from ..run.trust import trusting

SAMPLED_ABOVE = 150_000
"""Of COCO files with more images, a sample is checked before a training."""

__all__ = ["make_card", "open_run", "run", "save_run", "train"]


def run(args: argparse.Namespace) -> int:
    """Train as the command line says, and print the figures; under torchrun, in each of its processes."""
    return int(launch(_run, 1, args=(args, time.perf_counter())))


def _run(args: argparse.Namespace, start: float) -> int:
    if args.train is None and not (args.resume and args.output):
        raise UserError("--train DATA is needed (only --resume with the --output of a run goes without)")
    ray = ray_engine(args)
    processes = comm.get_world_size()
    if processes > 1:
        if ray is not None or args.num_gpus > 1:
            raise UserError("torchrun has started the processes: leave out --engine and --num-gpus")
        args.num_gpus = processes
    elif ray is not None:
        args.num_gpus = ray.num_workers  # for the batch
    local = comm.get_local_size() if processes > 1 else args.num_gpus
    device = ray.device if ray else chosen_device(args.device, local)
    with ExitStack() as held:
        prepared = _begin(args, device, held) if comm.is_main_process() else None
        folder, card, config = comm.all_gather(prepared)[0]
        allowed = (args.imports, args.trust)
        if ray is not None:
            held.close()  # Ray's processes are no children of this one, so their main process locks the folder itself
        summary = train(
            config,
            card,
            folder,
            resume=args.resume,
            num_gpus=args.num_gpus,
            start=start,
            allowed=allowed,
            ray=ray,
        )
    if summary:
        print(f"{figures(summary)}; see {folder / 'report.html'}".removeprefix("; "))
    return 0


def _begin(args: argparse.Namespace, device: str, held: ExitStack) -> tuple[Path, RunCard, RunConfig]:
    """Open or prepare the run, and lock its folder."""
    found = None if args.output else _find(args)  # the name of the folder has that of the model in it
    folder = Path(args.output or f"runs/{Path(args.train).stem}-{Path(found[1]).stem if found else ''}")
    with fresh_folder(folder):
        held.enter_context(folder_lock(folder))
        opened = open_run(args, folder)
        return folder, *(opened or _prepare(args, folder, device, *(found or _find(args))))


def open_run(args: argparse.Namespace, folder: Path) -> tuple[RunCard, RunConfig] | None:
    """Read the run to go on with; None to begin one.

    A run whose start was refused or killed before its first figures does not count.

    Raises:
        UserError: the folder holds a run that the command line says nothing about, or none where it needs one.
    """
    can_begin = getattr(args, "train", True) is not None
    if not args.resume:
        if has_begun(folder) and (folder / "run.json").is_file() and not args.overwrite:
            raise UserError(
                f"{folder} already holds a run: go on with --resume, start anew with --overwrite, or name another "
                "--output"
            )
        if args.overwrite:
            remove_run(folder)
        return None
    try:
        card = read_run(folder)
        config = load_run_config(_whole(folder / "config.yaml"))
    except (UserError, OSError, ValueError) as error:
        if not can_begin or isinstance(error, UntrustedTargetError):
            raise
        if has_begun(folder):
            setup_logger(name="detectron2").warning("%s: data and config are read anew.", error)
        return None
    config.put(output_dir=str(folder), **({"device": args.device} if args.device else {}))
    config.override(args.opts)
    _check_device(args, config)
    return card, config


def _check_device(args: argparse.Namespace, config: RunConfig) -> None:
    if not getattr(args, "engine", None):  # the machines of a cluster have other devices than this one
        check_device(config.options.device, "the device of the config")


def _whole(path: Path) -> Path:
    """Return the path of a file that is not empty."""
    if not path.is_file() or not path.stat().st_size:
        raise UserError(f"{path} is missing or empty")
    return path


def _find(args: argparse.Namespace, complete: bool = False) -> tuple[DataPlan, str]:
    """Find and check the data, and choose the model if the command line does not name one."""
    if args.model is not None:
        find_model(args.model)  # a wrong name is known before the data are read
    val = source_of(args, args.val, args.val_images) if args.val else None
    tiles = tile_options(args)
    with of_any_size(tiles):
        train = source_of(args, args.train, args.train_images)
        data = plan_training(
            train, val, sample_above=None if complete or tiles or args.dense else SAMPLED_ABOVE
        )
    return data, args.model or default_model(label_facts(data.parts["train"].records))


def _prepare(
    args: argparse.Namespace, folder: Path, device: str, data: DataPlan, model: str
) -> tuple[RunCard, RunConfig]:
    """Fit the config to the data, and write both into the folder of the run."""
    tiles = tile_options(args)
    if tiles is not None:
        data = cut_parts(data, folder, tiles, args.empty_tiles)
    config, task = _fit(args, device, data, model)
    if any(part.whole is not None and part.file is None for part in data.parts.values()):
        # The fit changed labels, and only a sample of them was read.
        data, model = _find(args, complete=True)
        config, task = _fit(args, device, data, model)
    setup_logger(str(folder))
    zoo_name = find_model(model)[1]
    weights = starting_weights(config.options.weights, zoo_name, args.weights, PathManager.get_local_path)
    if not weights:
        config.unfreeze()
    config.put(seed=args.seed, output_dir=str(folder), weights=weights)
    config.override(args.opts)
    _check_device(args, config)
    say_plan(data, schedule_text(config, data.parts["train"].num_images, model, weights))
    card = make_card(folder, model, data, args.seed, task)
    card.weights, card.rotated = weights, model_kinds(config)["rotated"]
    card.tiles = None if tiles is None else tiles.as_dict()
    if tiles is not None or args.dense:
        card.max_detections = most_detections(config, data.parts["val"].records, tiles)
    save_run(folder, card, config)
    return card, config


def _fit(
    args: argparse.Namespace, device: str, data: DataPlan, model: str
) -> tuple[RunConfig, PixelTask | None]:
    """Make the config of a model for the data, whose labels it may change; the notes of the data say how both were fit."""
    tiles = tile_options(args)
    plan = Plan(
        num_classes=len(data.parts["train"].class_names),
        num_images=data.parts["train"].num_images,
        epochs=args.epochs,
        batch_size=args.batch_size,
        workers=args.workers,
        device=device,
        num_gpus=args.num_gpus,
    )
    config = recipe(find_model(model)[0], plan)
    data.notes += fit_model(config, data, model, chosen=args.model is None)
    data.notes += fit_tiles(config, tiles, args.empty_tiles) if tiles is not None else []
    data.notes += fit_dense(config, data.parts["train"].records, model) if args.dense else []
    data.notes += fit_fast(config, args.opts) if args.fast else []
    trial = config.copied()
    trial.override(args.opts)
    task = pixel_task(trial, data, model)
    if task is None:
        data.notes += fit_labels(trial, data, model)
    else:
        data.notes += fit_pixels(config, task)
    return config, task


def save_run(folder: Path, card: RunCard, config: RunConfig) -> None:
    """Write the card and the config of a run into its folder."""
    card.save(folder)
    config.save(str(folder / "config.yaml"))


def make_card(folder: Path, model: str, plan: DataPlan, seed: int, task: PixelTask | None = None) -> RunCard:
    """Keep the data of a run and describe it.

    Args:
        folder: of the run; gets the labels that are not as training takes them.
        model: what the user calls it.
        plan: parts ``train`` and ``val``; ``val_tiles`` if the model learns from tiles.
        seed: seed of the run.
        task: that of label maps.
    """
    train_data = store(plan.parts["train"], "train", folder, task)
    val_data = store(plan.parts["val"], "val", folder, task)
    tiles = plan.parts.get("val_tiles")
    meta = plan.parts["train"].metadata
    classes = plan.parts["train"].class_names
    numbers = meta.get("thing_dataset_id_to_contiguous_id") or {i + 1: i for i in range(len(classes))}
    ids = task.ids if task is not None else sorted(numbers, key=lambda c: numbers[c])
    return RunCard(
        model=model,
        classes=classes,
        category_ids=ids,
        train=train_data,
        val=val_data,
        val_tiles=None if tiles is None else store(tiles, "val_tiles", folder),
        seed=seed,
        health=f"{plan.to_text()}\n\n{plan.health()}",
        keypoint_names=list(meta.get("keypoint_names", ())),
        keypoint_flips=[list(p) for p in meta.get("keypoint_flip_map", ())],
        pixels=None if task is None else asdict(task),
        versions=versions(),
        command=["detectron2", *sys.argv[1:]],
    )


def versions() -> dict[str, str]:
    """Return the versions that decide a run's figures."""
    return {
        "detectron2": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "Python": platform.python_version(),
        "platform": platform.platform(),
    }


def train(
    config: RunConfig,
    card: RunCard,
    folder: Path,
    *,
    resume: bool,
    num_gpus: int = 1,
    start: float | None = None,
    allowed: tuple[Sequence[str], bool] = ((), False),
    hooks: Sequence[HookBase] | None = None,
    ray: RayEngine | None = None,
) -> dict[str, Any]:
    """Train, keep the best weights, evaluate, and write the report.

    Args:
        config: resolved config, its data sets being TRAIN and VAL.
        card: card of the run.
        folder: its folder.
        resume: go on from the last whole checkpoint.
        num_gpus: processes.
        start: ``time.perf_counter()`` of the moment that "seconds" in the summary counts from.
        allowed: arguments of ``trusting``, for the processes.
        hooks: further hooks of the main process; by default one that logs the expected time.
        ray: starts the processes; None for this machine alone.

    Returns:
        The summary; on other processes than the main one, nothing.
    """
    start = time.perf_counter() if start is None else start
    job = (config, card, str(folder.absolute() if ray else folder), allowed, hooks)
    if ray is not None:
        ray.train(partial(_worker, *job, on_ray=True), folder.absolute(), resume=resume)
    else:
        launch(partial(_worker, *job), num_gpus, dist_url="auto", args=(resume,))
    is_main = comm.is_main_process()
    comm.leave()  # of a training under torchrun; its main process evaluates alone
    if not is_main:
        return {}
    register(card)
    parts = remote_parts(ray) if ray else None
    best = weights_of(folder, "best")
    summary = evaluate_run(config, card, folder, weights=best, since=start, parts=parts)
    write_card(folder, card, summary)
    page = write_training_report(folder)
    setup_logger(name="detectron2").info("Report: %s", page)
    return summary


def _worker(
    config: RunConfig, card: RunCard, folder: str, allowed: tuple[Sequence[str], bool],
    hooks: Sequence[HookBase] | None, resume: bool, on_ray: bool = False,
) -> None:  # fmt: skip
    """Train in one process."""
    with trusting(*allowed):
        setup_logger(folder, distributed_rank=comm.get_rank())
        set_backends(config.cfg)
        register(card, cut=True)
        trainer = DefaultTrainer(config.cfg)
        own = [ExpectedTime()] if hooks is None else hooks
        trainer.register_hooks(own if comm.is_main_process() else [])
        if on_ray:
            trainer.register_hooks(
                [RayReport(parse_length(trainer.settings.checkpoint_period, None), folder)]
            )
        trainer.resume_or_load(resume=resume)
        report = trainer.checkpointer.last_report
        if report is not None and report.useless:
            raise UserError(
                f"{report.path} holds no weight of {card.model}; --weights none starts from random ones"
            )
        trainer.train()
