"""Evaluating the weights of a run, and writing down what the report shows."""

import json
import time
from pathlib import Path
from typing import Any

import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import inference_on_dataset
from detectron2.evaluation._dispatch import build_evaluator
from detectron2.modeling import build_model
from detectron2.reports import explain_predictions

from ._datasets import VAL
from ._run_folder import RunCard, weights_of, write_json

__all__ = ["evaluate_run", "summarise"]

TASKS = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}


def evaluate_run(
    cfg: CfgNode, card: RunCard, folder: Path, *, weights: str, since: float | None = None
) -> dict[str, Any]:
    """Evaluate on the registered validation data and write `evaluation.json`, `summary.json` and `pictures/`.

    Args:
        cfg: config of the run.
        card: card of the run.
        folder: where to write.
        weights: file with the weights.
        since: `time.perf_counter()` at which the run started, for "seconds" in the summary.

    Returns:
        The summary.
    """
    model = build_model(cfg)
    DetectionCheckpointer(model).load(weights)
    evaluator = build_evaluator(cfg, VAL, str(folder / "inference"))
    with torch.no_grad():
        results = inference_on_dataset(model, build_detection_test_loader(cfg, VAL), evaluator)
    explain_predictions(VAL, folder, results or {})
    summary = {
        **summarise(results or {}),
        "weights": Path(weights).name,
        "iterations": cfg.SOLVER.MAX_ITER,
        "images": card.val.num_images,
        "seed": card.seed,
    }
    if since is not None:
        summary["seconds"] = round(time.perf_counter() - since, 1)
    write_json(folder / "summary.json", summary)
    return summary


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """The main figures as shares in [0, 1]: `box_AP`, `box_AP50`, `mask_AP`, …"""
    return {
        f"{label}_{metric}": results[task][metric] / 100
        for task, label in TASKS.items()
        if task in results
        for metric in ("AP", "AP50", "AP75")
        if metric in results[task]
    }
