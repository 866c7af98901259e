"""The report of a training run, created from the files in its folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.utils.file_io.atomic import atomic_write

from .analysis import TASKS, class_charts, class_table, confusion, error_charts, result_table
from .charts import COLORS, Series, bar_chart, line_chart, thinned
from .page import chart, counted, duration, figure, percent, read_json, read_lines, render, short, without_nan
from .pictures import BATCH
from .pixels import pixel_tables

__all__ = ["write_training_report"]

MOST_BARS = 20  # visible classes of a distribution of labels; the others are collapsed
MOST_CHARTS = 12  # likewise, of charts for single classes
SCORES = {
    f"{task}/{metric}": f"{label.lower()} {metric}"
    for task, label in TASKS.items()
    for metric in ("AP", "AP50")
} | {"sem_seg/mIoU": "mIoU", "panoptic_seg/PQ": "PQ"}
FILES = {
    "report.json": "every number of this page, for programs",
    "classes.csv": "metrics of each class, as a table",
    "config.yaml": "the resolved config",
    "run.json": "data, classes, model, seed and versions",
    "metrics.json": "metrics of training, one JSON object per line",
    "summary.json": "the main results",
    "evaluation.json": "the whole evaluation",
    "log.txt": "the log",
    "model_best.pth": "weights with the best validation result",
    "model_final.pth": "weights of the last step",
    "model_card.md": "base weights, licences, classes and results",
    "inference/": "predictions in COCO's format",
    "pictures/": "the pictures of this page",
}


def write_training_report(output_dir: str | Path) -> Path:
    """Write ``report.html`` and ``report.json`` into the folder of a run, from the files in it so far.

    Reads ``metrics.json`` (curves), ``run.json`` (data, model), ``summary.json`` and ``evaluation.json`` (final results)
    and ``pictures/``; each may be missing during training. The page shows only numbers of ``report.json``.

    Args:
        output_dir: folder of the run.

    Returns:
        Path of the page.
    """
    folder = Path(output_dir)
    report = _gather(folder)
    with atomic_write(folder / "report.json") as f:
        json.dump(without_nan(report), f, indent=1)
    run, summary, pictures = report["run"], report["summary"], report["pictures"]
    config, batch = folder / "config.yaml", folder / "pictures" / BATCH
    class_curves = class_charts(report)
    examples, errors = (_figures(folder, pictures.get(kind, [])) for kind in ("examples", "errors"))
    images = run.get("val", {}).get("num_images")
    return render(
        "training.html",
        folder / "report.html",
        title=Path(run.get("model") or folder.resolve().name).stem,
        lead=_lead(run, summary, report["training"]),
        tiles=_tiles(summary, report["training"]),
        warnings=report.get("notes", []),
        labels=_label_charts(run),
        batch=[
            figure(batch, "Training images as the model gets them, after augmentation, with their labels.")
        ]
        if batch.is_file()
        else [],
        charts=_charts(report["training"]),
        results=result_table(report),
        pixel_tables=pixel_tables(report.get("results", {})),
        held_out=counted(images, "validation image") if images is not None else "validation data",
        classes=class_table(report),
        class_curves=(class_curves[:MOST_CHARTS], class_curves[MOST_CHARTS:]),
        analysis=error_charts(report),
        confusion=confusion(report),
        pictures=examples,
        threshold=pictures.get("threshold", 0.5),
        errors=errors,
        facts=_facts(run),
        files=_files(folder),
        health=run.get("health", ""),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
    )


def _gather(folder: Path) -> dict[str, Any]:
    """Return every number of the page: the evaluation, and ``run``, ``summary``, ``training`` and ``pictures``."""
    records = list(read_lines(folder / "metrics.json"))
    names = sorted(
        {k for r in records for k, v in r.items() if k != "iteration" and isinstance(v, (int, float))}
    )
    training = {n: thinned([(r["iteration"], r[n]) for r in records if r.get(n) is not None]) for n in names}
    return {
        **(read_json(folder / "evaluation.json") or {}),
        "run": read_json(folder / "run.json") or {},
        "summary": read_json(folder / "summary.json") or {},
        "training": training,
        "pictures": read_json(folder / "pictures" / "index.json") or {},
    }


Training = Mapping[str, Sequence[tuple[float, float]]]
"""(iteration, value) pairs by the name of a metric."""


def _lead(run: Mapping[str, Any], summary: Mapping[str, Any], training: Training) -> str:
    train, classes = run.get("train", {}), run.get("classes", [])
    text = ""
    if train.get("num_images"):
        names = ", ".join(classes[:6]) + (f" and {len(classes) - 6} more" if len(classes) > 6 else "")
        text = (
            f"Trained on {counted(train['num_images'], 'image')} with "
            f"{counted(train.get('num_instances', 0), 'labelled object')} of "
            f"{counted(len(classes), 'class')} ({names}). "
        )
    return text + ("" if summary or not training else f"Training is at step {_steps(training)}.")


def _tiles(summary: Mapping[str, Any], training: Training) -> list[dict[str, str]]:
    tiles = [
        {"name": f"{name} on validation, %", "value": percent(summary[name])}
        for name in ("PQ", "mIoU")
        if name in summary
    ]
    tiles += [
        {"name": f"{kind} {metric} on validation, %", "value": percent(summary[f"{kind}_{metric}"])}
        for kind, metric in (
            ("box", "AP"),
            ("box", "AP50"),
            ("mask", "AP"),
            ("mask", "AP50"),
            ("keypoint", "AP"),
        )
        if f"{kind}_{metric}" in summary
    ]
    if not tiles and training.get("total_loss"):
        tiles.append({"name": "total loss", "value": short(training["total_loss"][-1][1])})
    if "seconds" in summary:
        tiles.append({"name": "from data to report", "value": duration(summary["seconds"])})
    steps = summary.get("iterations") or (training and _steps(training))
    if steps:
        tiles.append({"name": "training step" if steps == 1 else "training steps", "value": f"{steps:,}"})
    return tiles


def _steps(training: Training) -> int:
    """Return the number of steps so far; iterations count from 0."""
    return round(max(points[-1][0] for points in training.values() if points)) + 1


def _label_charts(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw the labels by class in the training and the validation data, in the order of the training data."""
    names = run.get("classes", [])
    counts = {
        label: run.get(key, {}).get("labels") for key, label in (("train", "Training"), ("val", "Validation"))
    }
    known = {label: c for label, c in counts.items() if c and len(c) == len(names)}
    first: list[int] = next(iter(known.values()), [])
    order = sorted(range(len(names)), key=lambda i: (-first[i], i)) if known else []
    charts = []
    for label, c in known.items():
        top, parts = float(max(c)), []
        for some in (order[:MOST_BARS], order[MOST_BARS:]):
            parts.append(bar_chart({names[i]: float(c[i]) for i in some}, label=f"{label} labels", top=top))
        more = (
            f"<details><summary>{counted(len(order) - MOST_BARS, 'more class')}</summary>{parts[1]}</details>"
        )
        none = sum(n == 0 for n in c)
        note = f"{counted(none, 'class')} without a label." if none else ""
        charts.append(
            chart(f"{label}: {counted(sum(c), 'label')}", parts[0] + more * (len(order) > MOST_BARS), note)
        )
    return charts


def _charts(training: Training) -> list[dict[str, Any]]:
    if not training:
        return []
    parts = [n for n in training if n.startswith("loss_") and training[n]]
    largest = sorted(parts, key=lambda n: -sum(abs(v) for _, v in training[n]) / len(training[n]))[:COLORS]
    charts = [
        _curves("Loss", training, {"total_loss": "training", "val/total_loss": "validation"}, "loss"),
        _curves("Loss by part", training, {n: n.removeprefix("loss_") for n in sorted(largest)}, "loss"),
    ]
    if len(parts) > len(largest):
        charts[-1]["note"] = f"The {len(largest)} largest of {len(parts)} parts; report.json has all."
    if any(name in training for name in SCORES):
        charts.append(_curves("Validation results", training, SCORES, "%", (0, 100)))
    charts.append(_curves("Learning rate", training, {"lr": "learning rate"}, "learning rate"))
    times = {"time": "step", "data_time": "waiting for data"}
    return [*charts, _curves("Seconds per step", training, times, "seconds")]


def _curves(
    title: str,
    training: Training,
    names: Mapping[str, str],
    y_label: str,
    y_range: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Draw metrics, by name with their labels, against the iteration."""
    series = [Series(label, training[name]) for name, label in names.items() if name in training]
    return chart(title, line_chart(series, x_label="step", y_label=y_label, y_range=y_range))


def _figures(folder: Path, entries: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    paths = [(folder / "pictures" / e["file"], e["caption"]) for e in entries]
    return [figure(path, caption) for path, caption in paths if path.is_file()]


def _facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("Model", run.get("model", ""))]
    if run:
        facts.append(("Started from", run.get("weights") or "random weights"))
    for key, label in (("train", "Training data"), ("val", "Validation data")):
        card = run.get(key) or {}
        part = "" if card.get("part", "all") == "all" else f", the {card['part']} part of a split by image"
        if card.get("json"):
            images, objects = card.get("num_images", 0), card.get("num_instances", 0)
            size = f"{counted(images, 'image')}, {counted(objects, 'object')}"
            facts.append((label, f"{card['json']}: {size}{part}"))
    facts += [("Seed", str(run.get("seed", ""))), ("Command", " ".join(run.get("command", [])))]
    facts += run.get("versions", {}).items()
    return [(k, v) for k, v in facts if v]


def _files(folder: Path) -> list[tuple[str, str]]:
    """Return the files of the run that exist, with their description; ``report.json`` is written with the page."""
    return [(name, text) for name, text in FILES.items() if (folder / name).exists()]
