"""Evaluating the weights of a run, and writing the results for its report."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.load_report import require_weights
from detectron2.data import DatasetCatalog, build_detection_test_loader
from detectron2.data.tiles import TileOptions
from detectron2.engine import DefaultTrainer
from detectron2.engine.run_config import RunConfig
from detectron2.engine.run_folder import RunCard
from detectron2.evaluation import inference_on_dataset
from detectron2.evaluation.build import evaluator_for
from detectron2.prediction import Predictor
from detectron2.prediction.augmented import augmented_model
from detectron2.prediction.tiles import TiledModel, TiledPredictor
from detectron2.reports import explain_predictions
from detectron2.utils.file_io.atomic import write_json

from .datasets import VAL

__all__ = ["evaluate_model", "evaluate_run", "evaluation_parts", "figures", "main_results", "summarise"]

Model = Callable[[Any], Any]
Parts = Callable[[RunConfig, RunCard, Path, str, Sequence[int] | None], tuple[Model, Iterable[Any]]]

MAIN = {("panoptic_seg", "PQ"): "PQ", ("sem_seg", "mIoU"): "mIoU"}  # of label maps
TASKS = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}


def evaluate_run(
    run: RunConfig,
    card: RunCard,
    folder: Path,
    *,
    weights: str,
    since: float | None = None,
    tta: Sequence[int] | None = None,
    parts: Parts | None = None,
) -> dict[str, Any]:
    """Evaluate on the registered validation data and write ``evaluation.json``, ``summary.json`` and ``pictures/``.

    Args:
        run: config of the run.
        card: card of the run.
        folder: folder to write to.
        weights: file with the weights.
        since: ``time.perf_counter()`` at the start of the run, for "seconds" in the summary.
        tta: sizes of test-time augmentation, see :func:`.augmented_model`; None for none.
        parts: returns the model and the loader, to evaluate elsewhere; None for :func:`evaluation_parts`.

    Returns:
        The summary.
    """
    run.put(output_dir=str(folder))
    model, loader = (parts or evaluation_parts)(run, card, folder, weights, tta)
    sigmas = tuple(run.get("TEST.KEYPOINT_OKS_SIGMAS", ()))
    about = {"weights": Path(weights).name, "iterations": run.options.max_iter}
    return evaluate_model(model, loader, card, folder, about, sigmas=sigmas, since=since)


def evaluation_parts(
    run: RunConfig, card: RunCard, folder: Path, weights: str, tta: Sequence[int] | None
) -> tuple[Model, Iterable[Any]]:
    """Return the model of a run, and a loader of its registered validation data, for whole images or tiles."""
    return _tiled(run, card, folder, weights, tta) if card.tiles else _whole(run, card, weights, tta)


def evaluate_model(
    model: Model,
    loader: Iterable[Any],
    card: RunCard,
    folder: Path,
    about: Mapping[str, Any],
    *,
    sigmas: tuple[float, ...] = (),
    since: float | None = None,
) -> dict[str, Any]:
    """Evaluate a model on the registered validation data and write what :func:`evaluate_run` writes.

    Args:
        model: takes a batch of ``loader``.
        loader: of the validation data.
        card: card of the run.
        folder: where to write.
        about: more for the summary.
        sigmas: of keypoints; none for COCO's.
        since: see :func:`evaluate_run`.

    Returns:
        The summary.
    """
    evaluator = evaluator_for(VAL, str(folder / "inference"), kpt_oks_sigmas=sigmas)
    results = inference_on_dataset(model, loader, evaluator)
    explain_predictions(evaluator, VAL, folder, results or {})
    summary = {**summarise(results or {}), **about, "images": card.val.num_images, "seed": card.seed}
    if since is not None:
        summary["seconds"] = round(time.perf_counter() - since, 1)
    write_json(folder / "summary.json", summary)
    return summary


def _whole(
    run: RunConfig, card: RunCard, weights: str, tta: Sequence[int] | None
) -> tuple[nn.Module, Iterable[Any]]:
    """Return the model, and a loader of whole images."""
    model = DefaultTrainer.build_model(run.cfg)
    saver = DetectionCheckpointer(model)
    saver.load(weights)
    require_weights(saver.last_report, card.model)
    model = model if tta is None else augmented_model(run, model, tta)
    return model, DefaultTrainer.build_test_loader(run.cfg, VAL)


def _tiled(
    run: RunConfig, card: RunCard, folder: Path, weights: str, tta: Sequence[int] | None
) -> tuple[nn.Module, Iterable[Any]]:
    """Return a model that reads images in tiles, and a loader of records without images."""
    assert card.tiles is not None
    trained = run.copied()
    with trained.thawed():
        trained.put(weights=weights)
    predictor = Predictor(trained.cfg, scores=None, batch_size=max(run.batch_size, 1))
    if tta is not None:
        predictor.augment(tta)
    kept = folder / "inference" / "tiles"
    model = TiledModel(TiledPredictor(predictor, TileOptions.from_dict(card.tiles), folder=kept, maps=False))
    return model, build_detection_test_loader(dataset=DatasetCatalog.get(VAL), mapper=_without_labels)


def _without_labels(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "annotations"}


def main_results(summary: Mapping[str, Any]) -> dict[str, str]:
    """Format the metrics of a summary, by name."""
    shown = ((k, v) for k, v in summary.items() if "AP" in k or k in MAIN.values())
    return {k: "undefined" if v is None else f"{v:.3f}" for k, v in shown}


def figures(summary: Mapping[str, Any]) -> str:
    """Format the main results in one line."""
    return ", ".join(f"{k} {v}" for k, v in main_results(summary).items())


def summarise(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the main results ``PQ``, ``mIoU``, ``box_AP``, ``mask_AP``, … in [0, 1], or None if undefined."""
    pixels = {
        name: results[task][metric] / 100 if results[task][metric] >= 0 else None
        for (task, metric), name in MAIN.items()
        if task in results
    }
    return pixels | {
        f"{label}_{metric}": results[task][metric] / 100 if results[task][metric] >= 0 else None
        for task, label in TASKS.items()
        if task in results
        for metric in ("AP", "AP50", "AP75")
        if metric in results[task]
    }
