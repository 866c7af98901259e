"""``detectron2 eval``: evaluate a run, or an exported file, on validation data."""

import argparse
import shutil
from pathlib import Path

from detectron2.data import DatasetCatalog
from detectron2.data.formats import plan_validation
from detectron2.engine.run_config import RunConfig, load_run_config
from detectron2.engine.run_folder import RunCard, read_run, weights_of
from detectron2.evaluation import resumable_evaluation
from detectron2.export import is_exported, load_exported
from detectron2.reports import write_comparison_page, write_training_report
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from ..run.datasets import VAL, register, store
from ..run.evaluation import evaluate_model, evaluate_run, figures
from ..run.exported import card_of_file, picture_loader, whole_pictures
from ..run.folder import fresh_folder, same_labels
from ..run.model_fit import fit_labels
from ..run.on_ray import ray_engine, remote_parts
from ..run.pixels import check_pixels
from ..run.plan import say_plan, source_of
from ..run.recipe import chosen_device
from ..run.tiles import most_detections, of_any_size, tile_options

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the report, and print the main results."""
    if is_exported(args.model):
        return _run_file(args)
    engine = ray_engine(args)
    device = engine.device if engine else chosen_device(args.device)
    card = read_run(args.model)
    folder = Path(args.output or Path(args.model) / "eval")
    if args.against:
        read_run(args.against)  # before the long work
    weights = weights_of(args.model, args.weights)
    with fresh_folder(folder):
        config = _prepare(args, card, folder, device)
    with resumable_evaluation(str(folder / "inference"), resume=args.resume):
        parts = remote_parts(engine) if engine else None
        summary = evaluate_run(config, card, folder, weights=weights, tta=_tta(args, config), parts=parts)
    page = write_training_report(folder)
    pages = [page]
    if args.against:
        pages.append(
            write_comparison_page(_evaluated(args.against, card), folder, folder / "comparison.html")
        )
    print(figures(summary))
    print("\n".join(f"see {page}" for page in pages))
    return 0


def _tta(args: argparse.Namespace, config: RunConfig) -> tuple[int, ...] | None:
    """Return the sizes of test-time augmentation, () for those of the config; None for none."""
    sizes: tuple[int, ...] | None = args.tta
    return () if sizes is None and config.get("TEST.AUG.ENABLED") else sizes


def _run_file(args: argparse.Namespace) -> int:
    """Evaluate an exported file."""
    if not args.data:
        raise UserError(f"{args.model} is an exported file and has no data of its own: name them with --data")
    if args.against or args.opts or args.tile is not None or args.tta is not None or args.engine:
        raise UserError(
            "an exported file takes no --against, no --tile, no --tta, no --engine and no config keys: evaluate the run instead"
        )
    exported = load_exported(args.model)
    path = Path(args.model)
    folder = Path(args.output or path.with_name(f"{path.name}.eval"))
    with fresh_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)
        setup_logger(str(folder))
        card = card_of_file(exported, args.model)
        plan = plan_validation(source_of(args, args.data, args.images), card.classes, card.category_ids)
        say_plan(plan)
        card.health = plan.health()
        card.val = store(plan.parts["val"], "val", folder)
        register(card, train=False)
        card.save(folder)
    about = {"weights": path.name, "precision": exported.metadata["precision"]}
    with resumable_evaluation(str(folder / "inference"), resume=args.resume):
        summary = evaluate_model(whole_pictures(exported), picture_loader(exported), card, folder, about)
    print(figures(summary))
    print(f"see {write_training_report(folder)}")
    return 0


def _prepare(args: argparse.Namespace, card: RunCard, folder: Path, device: str) -> RunConfig:
    """Read and check the data, and write the card into the folder of the evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    setup_logger(str(folder))
    config = load_run_config(Path(args.model) / "config.yaml", args.opts)
    tiles = tile_options(args, card.tiles)
    card.tiles = None if tiles is None else tiles.as_dict()
    if args.data:
        with of_any_size(tiles):
            plan = plan_validation(source_of(args, args.data, args.images), card.classes, card.category_ids)
        if card.pixel_task is not None:
            check_pixels(card.pixel_task, plan, card.model)
        else:
            plan.notes += fit_labels(config, plan, card.model)
        say_plan(plan)
        card.health = plan.health()
        card.val = store(plan.parts["val"], "val", folder, card.pixel_task)
    register(card, train=False)
    if tiles is not None:
        card.max_detections = most_detections(config, DatasetCatalog.get(VAL), tiles)
        register(card, train=False)
        if not args.resume:
            shutil.rmtree(folder / "inference" / "tiles", ignore_errors=True)
    config.put(device=device)
    card.save(folder)
    return config


def _evaluated(run: str, card: RunCard) -> Path:
    """Return the folder, of a run or its ``eval``, with an evaluation on the data of ``card``."""
    for folder in (Path(run), Path(run) / "eval"):
        if (folder / "inference" / "coco_instances_results.json").is_file():
            val = read_run(folder).val
            if same_labels(val, card.val):
                return folder
    raise UserError(
        f"{run} has no evaluation on {card.val.json}; run `detectron2 eval {run} --data {card.val.json}`"
    )
