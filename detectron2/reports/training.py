"""The report of a training run, created from the files in its folder."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from .charts import Series, bar_chart, heat_map, line_chart
from .page import chart, figure, percent, read_json, read_lines, render

__all__ = ["write_training_report"]

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
MOST_CONFUSED = 20
MOST_ROWS = 40  # visible rows of the table of classes; the others are collapsed
SIZES = {"small": "small (below 32² px)", "medium": "medium", "large": "large (from 96² px)"}
UNDEFINED = -100  # LVIS metrics without ground truth
TASKS = {"bbox": "Boxes", "segm": "Masks", "keypoints": "Keypoints"}


def write_training_report(output_dir: str | Path) -> Path:
    """Write ``report.html`` into the folder of a run, from the files in it so far.

    Reads ``metrics.json`` (curves), ``run.json`` (data, model), ``summary.json`` and ``evaluation.json`` (final results)
    and ``pictures/index.json``; each may be missing during training.

    Args:
        output_dir: folder of the run.

    Returns:
        Path of the page.
    """
    folder = Path(output_dir)
    records = list(read_lines(folder / "metrics.json"))
    run = read_json(folder / "run.json") or {}
    summary = read_json(folder / "summary.json") or {}
    evaluation = read_json(folder / "evaluation.json") or {}
    pictures = read_json(folder / "pictures" / "index.json") or {}
    config = folder / "config.yaml"
    val = run.get("val", {})
    return render(
        "training.html",
        folder / "report.html",
        title=f"{Path(run.get('model', folder.name)).stem}",
        lead=_lead(run, summary, records),
        tiles=_tiles(summary, records),
        warnings=evaluation.get("notes", []),
        charts=_charts(records),
        results=_results(evaluation),
        held_out=f"{val.get('num_images', '')} validation images".strip(),
        classes=_classes(evaluation),
        analysis=_analysis(evaluation),
        confusion=_confusion(evaluation),
        pictures=_figures(folder, pictures.get("examples", [])),
        threshold=pictures.get("threshold", 0.5),
        errors=_errors(folder, pictures.get("errors", [])),
        facts=_facts(run, summary),
        health=run.get("health", ""),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
    )


def _lead(run: Mapping[str, Any], summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    train = run.get("train", {})
    data = f"{train.get('num_images', '?')} images, {train.get('num_instances', '?')} labelled objects"
    classes = run.get("classes", [])
    names = ", ".join(classes[:6]) + (f" and {len(classes) - 6} more" if len(classes) > 6 else "")
    state = "" if summary else f" Training is at step {_last(records, 'iteration')}."
    return f"Trained on {data} ({names}).{state}"


def _tiles(summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    tiles = [
        {"name": f"{label} on validation", "value": percent(summary[key])}
        for key, label in (
            ("box_AP", "box AP"),
            ("box_AP50", "box AP50"),
            ("mask_AP", "mask AP"),
            ("mask_AP50", "mask AP50"),
            ("keypoint_AP", "keypoint AP"),
        )
        if key in summary
    ]
    if not tiles:
        tiles.append({"name": "total loss", "value": _short(_last(records, "total_loss"))})
    if "seconds" in summary:
        tiles.append({"name": "from data to report", "value": _duration(summary["seconds"])})
    steps = summary.get("iterations") or _last(records, "iteration")
    tiles.append({"name": "training steps", "value": str(steps)})
    return tiles


def _charts(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not records:
        return []
    names = sorted({k for r in records for k in r if k.startswith("loss_") and not k.startswith("loss_val")})
    charts = [
        chart(
            "Total loss",
            line_chart(
                _series(records, {"total_loss": "training", "val/total_loss": "validation"}),
                x_label="step",
                y_label="loss",
            ),
        ),
        chart(
            "Loss by part",
            line_chart(
                _series(records, {n: n.removeprefix("loss_") for n in names}), x_label="step", y_label="loss"
            ),
        ),
    ]
    aps = {f"{task}/{m}": f"{label.lower()} {m}" for task, label in TASKS.items() for m in ("AP", "AP50")}
    if any(k in r for r in records for k in aps):
        charts.append(
            chart(
                "Validation AP",
                line_chart(_series(records, aps), x_label="step", y_label="AP (%)", y_range=(0, 100)),
            )
        )
    charts.append(
        chart(
            "Learning rate",
            line_chart(_series(records, {"lr": "lr"}), x_label="step", y_label="learning rate"),
        )
    )
    charts.append(
        chart(
            "Seconds per step",
            line_chart(
                _series(records, {"time": "step", "data_time": "waiting for data"}),
                x_label="step",
                y_label="seconds",
            ),
        )
    )
    return charts


def _series(records: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[Series]:
    return [
        Series(label, [(r["iteration"], r[key]) for r in records if isinstance(r.get(key), (int, float))])
        for key, label in names.items()
        if any(key in r for r in records)
    ]


def _results(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    results = evaluation.get("results", {})
    rows = []
    for task, label in TASKS.items():
        if task in results:
            rows.append([label, *(_short(results[task].get(m)) for m in METRICS)])
    return {"head": ["", *METRICS], "rows": rows} if rows else None


def _classes(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    rows = evaluation.get("classes")
    if not rows:
        return None
    figures = ("ap", "ap50", "ap75", "ar")
    order = sorted(rows, key=lambda r: (-r["objects"], r["name"]))
    lines = [
        [
            r["name"],
            r["objects"],
            *(_short(r[k]) for k in figures),
            *(_short(r[k]) for k in ("precision", "recall", "f1")),
            _short(r["threshold"]),
        ]
        for r in order
    ]
    return {
        "note": f"{TASKS[evaluation['task']]}. AP and AR in percent; precision, recall and F1 at IoU 0.5 and the score "
        "threshold with the best F1. Classes with the most labels first.",
        "head": ["Class", "Labels", "AP", "AP50", "AP75", "AR", "Precision", "Recall", "F1", "at score"],
        "rows": lines[:MOST_ROWS],
        "more": lines[MOST_ROWS:],
    }


def _analysis(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw the charts of the diagnosis; classes without labels have no curves."""
    if "curves" not in evaluation:
        return []
    curves = evaluation["curves"]
    rows = sorted(evaluation["classes"], key=lambda r: (-r["objects"], r["name"]))
    names = [r["name"] for r in rows if r["objects"] and curves[r["name"]]["score"]][:6]
    unit: dict[str, Any] = {"x_range": (0.0, 1.0), "y_range": (0.0, 1.0)}
    unit["empty"] = "No detections of the labelled classes."
    pr = [Series(n, list(zip(curves[n]["recall"], curves[n]["precision"]))) for n in names]
    f1 = [Series(n, sorted(zip(curves[n]["score"], curves[n]["f1"]))) for n in names]
    ious = line_chart(
        [Series("AP", [(float(t), ap) for t, ap in evaluation["ious"].items()])],
        x_label="IoU threshold",
        y_label="AP (%)",
        y_range=(0.0, 100.0),
        x_range=(0.5, 0.95),
        empty="No labels.",
    )
    sizes = {
        f"{figure}, {SIZES[size]}": float("nan") if value is None else value
        for size, figures in evaluation["sizes"].items()
        if size in SIZES
        for figure, value in figures.items()
        if figure in ("AP", "AR")
    }
    lost = {k: float("nan") if v is None else v for k, v in evaluation["errors"].items()}
    return [
        chart(
            "Precision and recall at IoU 0.5", line_chart(pr, x_label="recall", y_label="precision", **unit)
        ),
        chart("F1 by score threshold", line_chart(f1, x_label="score threshold", y_label="F1", **unit)),
        chart("AP by IoU threshold", ious),
        chart("AP and AR by object size", bar_chart(sizes, label="AP and AR (%)", top=100.0)),
        chart("AP50 points lost to each kind of error", bar_chart(lost, label="AP50 points")),
        _calibration(evaluation["calibration"]),
    ]


def _calibration(told: Mapping[str, Any]) -> dict[str, Any]:
    """Draw scores against the fraction of correct detections, and the ideal line if there are detections."""
    pairs = [(c, a) for c, a in zip(told["confidence"], told["accuracy"]) if c is not None and a is not None]
    series = [Series("this model", pairs), Series("ideal", [(0.0, 0.0), (1.0, 1.0)])] if pairs else []
    svg = line_chart(
        series,
        x_label="score",
        y_label="fraction correct",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        empty="No detections.",
    )
    return chart(f"Are scores probabilities? (calibration error {_short(told['ece'])})", svg)


def _confusion(evaluation: Mapping[str, Any]) -> Markup | None:
    """Return the confusion matrix of at most MOST_CONFUSED classes with objects or detections, and "nothing"."""
    found = evaluation.get("confusion")
    if not found or not found["names"]:
        return None
    matrix = found["matrix"]
    nothing = len(found["names"])
    seen = [sum(matrix[i]) + sum(row[i] for row in matrix) for i in range(nothing)]
    order = sorted(range(nothing), key=lambda i: -seen[i])[:MOST_CONFUSED]
    kept = [i for i in sorted(order) if seen[i]] + [nothing]
    names = [*found["names"], "nothing"]
    cells = [[matrix[i][j] for j in kept] for i in kept]
    return Markup(heat_map([names[i] for i in kept], [names[i] for i in kept], cells))


def _figures(folder: Path, entries: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    paths = [(folder / "pictures" / e["file"], e["caption"]) for e in entries]
    return [figure(path, caption) for path, caption in paths if path.is_file()]


def _errors(folder: Path, entries: Sequence[Mapping[str, str]]) -> dict[str, Any] | None:
    pictures = _figures(folder, entries)
    note = (
        "The images with the most errors at IoU 0.5 and each class's best score threshold. Left, in red: missed labels. "
        "Right, in red: false predictions. Correct ones are green."
    )
    return {"note": note, "pictures": pictures} if pictures else None


def _facts(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("Model", run.get("model", "")), ("Started from", run.get("weights") or "random weights")]
    for key, label in (("train", "Training data"), ("val", "Validation data")):
        card = run.get(key, {})
        part = "" if card.get("part", "all") == "all" else f", the {card['part']} part of a split by image"
        facts.append(
            (
                label,
                f"{card.get('json', '')}: {card.get('num_images', '?')} images, {card.get('num_instances', '?')} objects{part}",
            )
        )
    facts += [("Seed", str(run.get("seed", ""))), ("Command", " ".join(run.get("command", [])))]
    facts += [(k, v) for k, v in run.get("versions", {}).items()]
    return [(k, v) for k, v in facts if v]


def _last(records: Sequence[Mapping[str, Any]], key: str) -> Any:
    return next((r[key] for r in reversed(records) if key in r), "–")


def _short(value: object) -> str:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value == UNDEFINED:
        return "–"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
