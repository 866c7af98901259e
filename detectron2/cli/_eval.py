"""`detectron2 eval`: the figures of a run on its validation data or on others."""

import argparse
from pathlib import Path

from detectron2.reports import write_training_report
from detectron2.utils.logger import setup_logger

from ._check import check_data
from ._configs import load_config, put
from ._datasets import find_data, register
from ._evaluate import evaluate_run
from ._recipe import best_device
from ._run_folder import read_run, weights_of

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the page, and print the figures."""
    card = read_run(args.model)
    folder = Path(args.output or Path(args.model) / "eval")
    folder.mkdir(parents=True, exist_ok=True)
    setup_logger(str(folder))
    weights = weights_of(args.model, args.weights)
    if args.data:
        _, val, card.health = check_data(card.train, find_data(args.data, args.images, folder), folder)
        assert val is not None
        card.val = val
    register(None, card.val, card.classes, card.category_ids)
    cfg = load_config(Path(args.model) / "config.yaml", args.opts)
    put(cfg, device=args.device or best_device())
    card.save(folder)
    summary = evaluate_run(cfg, card, folder, weights=weights)
    page = write_training_report(folder)
    print(
        ", ".join(f"{k} {'undefined' if v is None else f'{v:.3f}'}" for k, v in summary.items() if "AP" in k)
    )
    print(f"see {page}")
    return 0
