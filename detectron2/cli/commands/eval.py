"""``detectron2 eval``: the figures of a run on its validation data or on others."""

import argparse
from pathlib import Path

from detectron2.engine.run_config import load_run_config
from detectron2.evaluation import resumable_evaluation
from detectron2.reports import write_comparison_page, write_training_report
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from ..run.data_check import check_data
from ..run.datasets import find_data, register
from ..run.evaluation import evaluate_run
from ..run.folder import RunCard, read_run, weights_of
from ..run.recipe import best_device

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the page, and print the figures."""
    card = read_run(args.model)
    folder = Path(args.output or Path(args.model) / "eval")
    folder.mkdir(parents=True, exist_ok=True)
    setup_logger(str(folder))
    if args.against:
        read_run(args.against)  # before the long work
    weights = weights_of(args.model, args.weights)
    if args.data:
        _, val, card.health = check_data(card.train, find_data(args.data, args.images, folder), folder)
        assert val is not None
        card.val = val
    register(None, card.val, card.classes, card.category_ids)
    config = load_run_config(Path(args.model) / "config.yaml", args.opts)
    config.put(device=args.device or best_device())
    card.save(folder)
    with resumable_evaluation(str(folder / "inference"), resume=args.resume):
        summary = evaluate_run(config, card, folder, weights=weights)
    page = write_training_report(folder)
    print(
        ", ".join(f"{k} {'undefined' if v is None else f'{v:.3f}'}" for k, v in summary.items() if "AP" in k)
    )
    print(f"see {page}")
    if args.against:
        print(
            f"see {write_comparison_page(_evaluated(args.against, card), folder, folder / 'comparison.html')}"
        )
    return 0


def _evaluated(run: str, card: RunCard) -> Path:
    """Return the folder of a run, or of its ``eval``, that holds an evaluation on the data of ``card``."""
    for folder in (Path(run), Path(run) / "eval"):
        if (folder / "inference" / "coco_instances_results.json").is_file():
            val = read_run(folder).val
            if (val.part, Path(val.json).resolve()) == (card.val.part, Path(card.val.json).resolve()):
                return folder
    raise UserError(
        f"{run} has no evaluation on {card.val.json}; write one with `detectron2 eval {run} --data {card.val.json}`"
    )
