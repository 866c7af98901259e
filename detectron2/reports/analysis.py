"""Sections of a report that explain an evaluation: classes, curves, errors, confusion, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from .charts import COLORS, Series, bar_chart, heat_map, line_chart
from .page import chart, counted, short

__all__ = [
    "TASKS",
    "class_charts",
    "class_table",
    "confusion",
    "error_charts",
    "result_table",
]

TASKS = {"bbox": "Boxes", "segm": "Masks", "keypoints": "Keypoints"}
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
SIZES = {"small": "small (below 32² px)", "medium": "medium", "large": "large (from 96² px)"}
MOST_ROWS = 40  # visible rows of the table of classes; the others are collapsed
MOST_CONFUSED = 20
MOST_CURVES = 80  # classes with charts of their own
UNIT = (0.0, 1.0)
NO_DETECTIONS = "No detections of the labelled classes."


def result_table(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the metrics of each task as a table; None without results."""
    results = report.get("results", {})
    rows = [
        [label, *(short(results[task].get(m)) for m in METRICS)]
        for task, label in TASKS.items()
        if task in results
    ]
    return {"head": ["", *METRICS], "rows": rows} if rows else None


def class_table(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the metrics of each class as a table; None without a diagnosis."""
    if not report.get("classes"):
        return None
    figures = ("ap", "ap50", "ap75", "ar", "precision", "recall", "f1", "threshold")
    lines = [[r["name"], f"{r['objects']:,}", *(short(r[k]) for k in figures)] for r in _ordered(report)]
    return {
        "note": f"{TASKS[report['task']]}. AP and AR in percent; precision, recall and F1 in percent at IoU 0.5 and "
        "the score threshold with the best F1. Classes with the most labels first.",
        "head": ["Class", "Labels", "AP", "AP50", "AP75", "AR", "Precision", "Recall", "F1", "at score"],
        "rows": lines[:MOST_ROWS],
        "more": lines[MOST_ROWS:],
    }


def class_charts(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw precision, recall and F1 against the score threshold, one chart for each class with labels and detections."""
    drawn = []
    for row in _with_curves(report)[:MOST_CURVES]:
        curve = report["curves"][row["name"]]
        series = [
            Series(label, list(zip(curve["score"], curve[key]))[::-1])
            for key, label in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
        ]
        svg = line_chart(series, x_label="score threshold", y_label="P, R, F1", x_range=UNIT, y_range=UNIT)
        best = f"Best F1: {short(row['f1'])} % at score {short(row['threshold'])}" if row["f1"] else ""
        drawn.append(chart(row["name"], svg, best))
    return drawn


def error_charts(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw precision against recall, AP by overlap and size, kinds of errors, and calibration."""
    if "curves" not in report:
        return []
    curves = report["curves"]
    names = [row["name"] for row in _with_curves(report)]
    pr = line_chart(
        [Series(n, list(zip(curves[n]["recall"], curves[n]["precision"]))) for n in names[:COLORS]],
        x_label="recall",
        y_label="precision",
        x_range=UNIT,
        y_range=UNIT,
        empty=NO_DETECTIONS,
    )
    ious = line_chart(
        [Series("AP", [(float(t), ap) for t, ap in report["ious"].items()])],
        x_label="IoU threshold",
        y_label="AP (%)",
        y_range=(0.0, 100.0),
        x_range=(0.5, 0.95),
        empty="No labels.",
    )
    sizes = {
        f"{figure}, {SIZES[size]}": _number(value)
        for size, figures in report["sizes"].items()
        if size in SIZES
        for figure, value in figures.items()
        if figure in ("AP", "AR")
    }
    counts = report["error_counts"]
    lost = {f"{kind} ({counts[kind]:,})": _number(v) for kind, v in report["errors"].items()}
    some = f"The {COLORS} classes with the most labels." if len(names) > COLORS else ""
    return [
        chart("Precision and recall at IoU 0.5", pr, some),
        chart("AP by IoU threshold", ious),
        chart("AP and AR by object size (%)", bar_chart(sizes, label="AP and AR (%)", top=100.0)),
        chart(
            "AP50 points lost to each kind of error",
            bar_chart(lost, label="AP50 points"),
            "Number of errors in parentheses. The bars say how much AP50 would gain without them.",
        ),
        _calibration(report["calibration"]),
    ]


def confusion(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Draw the normalised confusion matrix of at most MOST_CONFUSED classes with objects or detections.

    Returns:
        The table and a note that says how to read it; None without a diagnosis.
    """
    found = report.get("confusion")
    if not found or not found["names"]:
        return None
    names, matrix = found["names"], found["matrix"]
    nothing = len(names)
    seen = [sum(matrix[i]) + sum(row[i] for row in matrix) for i in range(nothing)]
    order = sorted(range(nothing), key=lambda i: -seen[i])[:MOST_CONFUSED]
    kept = [i for i in sorted(order) if seen[i]] + [nothing]
    cells = [[matrix[i][j] for j in kept] for i in kept]
    rows = [*(names[i] for i in kept[:-1]), "no object (false alarm)"]
    columns = [*(names[i] for i in kept[:-1]), "not found"]
    note = (
        f"Rows are labels, columns are predictions with a score of at least {short(found['min_score'])} and an IoU of "
        "at least 0.5. Each row is in percent of its count; the diagonal is correct."
    )
    if len(order) < sum(n > 0 for n in seen):
        note += f" The {len(order)} most frequent classes are shown."
    return {"table": Markup(heat_map(rows, columns, cells)), "note": note}


def _calibration(told: Mapping[str, Any]) -> dict[str, Any]:
    """Draw scores against the fraction of correct detections, and the ideal line if there are detections."""
    pairs = [(c, a) for c, a in zip(told["confidence"], told["accuracy"]) if c is not None and a is not None]
    series = [Series("this model", pairs), Series("ideal", [(0.0, 0.0), (1.0, 1.0)])] if pairs else []
    svg = line_chart(
        series,
        x_label="score",
        y_label="fraction correct",
        x_range=UNIT,
        y_range=UNIT,
        empty="No detections.",
    )
    note = f"Calibration error {short(told['ece'])}, over {counted(sum(told['count']), 'detection')}."
    return chart("Are scores probabilities?", svg, note if pairs else "")


def _ordered(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of classes, those with the most labels first."""
    return sorted(report.get("classes", ()), key=lambda r: (-r["objects"], r["name"]))


def _with_curves(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of the classes with labels and detections, which alone have curves."""
    curves = report.get("curves", {})
    return [r for r in _ordered(report) if r["objects"] and curves.get(r["name"], {}).get("score")]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
