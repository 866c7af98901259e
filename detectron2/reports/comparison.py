"""The page that compares two evaluated runs."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from markupsafe import Markup

from detectron2.data import Metadata
from detectron2.data import detection_utils as utils
from detectron2.data.datasets.coco import load_coco_json
from detectron2.evaluation.coco.detections import ImageDetections, from_json_dicts
from detectron2.evaluation.coco.truth import GroundTruth, read_coco_json
from detectron2.evaluation.diagnosis.compare import compare_models
from detectron2.evaluation.diagnosis.diagnose import diagnose
from detectron2.evaluation.diagnosis.findings import ERROR_NAMES, Diagnosis, Difference

from .analysis import TASKS
from .explain import THRESHOLD, load_predictions, visible
from .page import counted, figure, read_json, render
from .pictures import draw_instances, draw_labels, save_row

__all__ = ["write_comparison_page"]

RESULTS = Path("inference") / "coco_instances_results.json"
PICTURES = 6
MOST_CLASSES = 40
SAMPLES = 500  # bootstrap samples
FEW_IMAGES = 30  # with fewer images, the bootstrap says little about other images


@dataclass(frozen=True)
class _Run:
    """The contents of a run's folder."""

    folder: Path
    name: str
    card: Mapping[str, Any]
    summary: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    @property
    def tasks(self) -> set[str]:
        """The tasks that every prediction allows."""
        keys = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}
        return {task for task, key in keys.items() if self.rows and all(key in row for row in self.rows)}


def write_comparison_page(run_a: Path, run_b: Path, output: Path) -> Path:
    """Compare two runs that were evaluated on the same images, and write one page.

    The page shows the metrics of both, 95 % confidence intervals of their differences (bootstrap over images), the AP of
    each class in both, and the images whose numbers of errors differ most.

    Args:
        run_a: folder of ``detectron2 train`` or ``detectron2 eval``, the baseline.
        run_b: folder of the other run; differences are ``run_b`` minus ``run_a``.
        output: page to write.

    Returns:
        Path of the page.

    Raises:
        ValueError: if a folder has no evaluation, or the runs were evaluated on different images.
    """
    a, b = _read(Path(run_a)), _read(Path(run_b))
    truth = _truth_of(a)
    _check_same_data(a, b, truth)
    found_a, found_b = _detections(a, truth), _detections(b, truth)
    tasks = [t for t in TASKS if t in a.tasks & b.tasks] or ["bbox"]
    tables = [
        _figures_table(
            TASKS[t], compare_models(truth, found_a, found_b, t, samples=SAMPLES), len(truth.images)
        )
        for t in tasks
    ]
    main = "segm" if "segm" in tasks else "bbox"
    whole = len(truth.images)
    sides = [diagnose(truth, found, main, top=whole) for found in (found_a, found_b)]
    with tempfile.TemporaryDirectory() as scratch:
        pictures = _pictures(a, b, truth, sides, Path(scratch))
        return render(
            "comparison.html",
            output,
            title=f"{b.name} against {a.name}",
            lead=f"Both on the same data: {counted(whole, 'image')} with "
            f"{counted(len(truth.annotations), 'labelled object')}. A is {a.folder}, B is {b.folder}; differences are B minus A.",
            tables=tables,
            caution=f"Only {counted(whole, 'image')}: the intervals say little about other images."
            if whole < FEW_IMAGES
            else "",
            task=TASKS[main],
            bars=_bars(_class_deltas(*sides)),
            errors=_error_table(*sides),
            pictures=pictures,
            threshold=THRESHOLD,
            facts=[*_facts("A", a), *_facts("B", b)],
        )


def _read(folder: Path) -> _Run:
    card = read_json(folder / "run.json")
    path = folder / RESULTS
    if card is None or not path.is_file():
        absent = "run.json" if card is None else str(RESULTS)
        raise ValueError(f"{folder} has no evaluation: {absent} is missing; run `detectron2 eval {folder}`")
    val = card["val"]
    val |= {key: str(folder / val[key]) for key in ("json", "images")}  # absolute, or relative to the folder
    summary = read_json(folder / "summary.json") or {}
    name = folder.parent.name if folder.name == "eval" else folder.name
    return _Run(folder, name, card, summary, json.loads(path.read_bytes()))


def _ground_truth_file(run: _Run) -> Path:
    """Return the labels of a run's evaluation: its json file, or the file that its evaluator wrote for a part of it."""
    if run.card["val"].get("part", "all") == "all":
        return Path(run.card["val"]["json"])
    files = sorted((run.folder / "inference").glob("*_coco_format.json"))
    if len(files) != 1:
        raise ValueError(
            f"{run.folder} was evaluated on a part of {run.card['val']['json']}, so inference/ must have one file "
            f"*_coco_format.json, got {len(files)}: run `detectron2 eval` again"
        )
    return files[0]


def _truth_of(run: _Run) -> GroundTruth:
    path = _ground_truth_file(run)
    if not path.is_file():
        raise ValueError(f"{path}, the labels of {run.folder}, does not exist any more")
    return read_coco_json(str(path))


def _check_same_data(a: _Run, b: _Run, truth: GroundTruth) -> None:
    other = _truth_of(b)
    same = [
        {i: sorted(str(x.get("bbox")) for x in t.by_image.get(i, ())) for i in t.images}
        for t in (truth, other)
    ]
    if same[0] != same[1]:
        common = len(truth.images.keys() & other.images.keys())
        raise ValueError(
            f"{a.folder} and {b.folder} were evaluated on different labels ({len(truth.images)} and "
            f"{len(other.images)} images, {common} ids in common): evaluate both with the same --data"
        )


def _detections(run: _Run, truth: GroundTruth) -> list[ImageDetections]:
    """Return the detections of each image of the ground truth."""
    rows: dict[Any, list[Mapping[str, Any]]] = {i: [] for i in truth.images}
    for row in run.rows:
        if row["image_id"] in rows:
            rows[row["image_id"]].append(row)
    return [from_json_dicts(found, image) for image, found in rows.items()]


# ------------------------------------------------------------------ tables and bars


def _figures_table(title: str, differences: Sequence[Difference], images: int) -> dict[str, Any]:
    rows = [
        [
            d.name,
            f"{d.a:.2f}",
            f"{d.b:.2f}",
            f"{d.delta:+.2f}",
            f"{d.low:+.2f} to {d.high:+.2f}",
            f"{100 * d.probability_better:.0f} %",
        ]
        for d in differences
    ]
    head = ["", "A", "B", "B minus A", "95 % interval", "samples where B is better"]
    main = next((d for d in differences if d.name == "AP"), None)
    return {"title": title, "head": head, "rows": rows, "verdict": _verdict(main, images)}


def _verdict(d: Difference | None, images: int) -> str:
    """Describe the difference in AP."""
    if d is None:
        return "AP is undefined: there is no ground truth."
    size = f"{abs(d.delta):.2f} points of AP"
    sure = "" if images < FEW_IMAGES else "; this is unlikely to be chance"
    if d.low > 0:
        return f"B is better by {size}{sure}."
    if d.high < 0:
        return f"B is worse by {size}{sure}."
    if d.delta == 0:
        return "Both have the same AP."
    return f"B is {'ahead' if d.delta > 0 else 'behind'} by {size}, which may be chance: the interval contains 0."


def _class_deltas(a: Diagnosis, b: Diagnosis) -> list[tuple[str, float, float]]:
    """Return name and both APs of the classes with ground truth, largest difference first."""
    pairs = [(x.name, x.ap, y.ap) for x, y in zip(a.classes, b.classes, strict=True)]
    known = [p for p in pairs if math.isfinite(p[1]) and math.isfinite(p[2])]
    return sorted(known, key=lambda p: (-abs(p[2] - p[1]), p[0]))[:MOST_CLASSES]


def _bars(rows: Sequence[tuple[str, float, float]]) -> Markup:
    """Draw bars of B minus A to both sides of a middle line."""
    full = max((abs(b - a) for _, a, b in rows), default=0.0) or 1.0
    lines = []
    for name, a, b in rows:
        share = 50 * abs(b - a) / full
        left = 50.0 if b >= a else 50.0 - share
        lines.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="num">{a:.1f}</td><td class="num">{b:.1f}</td>'
            f'<td class="delta"><span class="{"up" if b >= a else "down"}" '
            f'style="margin-left:{left:.1f}%;width:{share:.1f}%"></span></td><td class="num">{b - a:+.1f}</td></tr>'
        )
    return Markup("".join(lines))


def _error_table(a: Diagnosis, b: Diagnosis) -> dict[str, Any]:
    rows = [
        [name, a.errors.counts[k], b.errors.counts[k], f"{a.errors.cost[k]:.2f}", f"{b.errors.cost[k]:.2f}"]
        for k, name in ERROR_NAMES.items()
    ]
    return {"head": ["", "A: count", "B: count", "A: AP50 lost", "B: AP50 lost"], "rows": rows}


def _facts(letter: str, run: _Run) -> list[tuple[str, str]]:
    facts = [("run", str(run.folder)), ("model", str(run.card.get("model", "")))]
    facts += [(k, str(run.summary[k])) for k in ("weights", "iterations", "seed") if k in run.summary]
    return [(f"{letter}: {k}", v) for k, v in facts]


# ------------------------------------------------------------------ pictures


def _most_different(a: Diagnosis, b: Diagnosis) -> list[tuple[Any, int, int]]:
    """Return image ids and both numbers of errors where they differ, largest difference first."""
    counts = [{e.image_id: e.errors for e in side.worst} for side in (a, b)]
    rows = [(i, counts[0].get(i, 0), counts[1].get(i, 0)) for i in {**counts[0], **counts[1]}]
    rows = [r for r in rows if r[1] != r[2]]
    return sorted(rows, key=lambda r: (-abs(r[1] - r[2]), str(r[0])))[:PICTURES]


def _pictures(
    a: _Run, b: _Run, truth: GroundTruth, sides: Sequence[Diagnosis], scratch: Path
) -> list[dict[str, str]]:
    """Draw labels, A and B of the images with the largest differences; missing files are skipped."""
    chosen = _most_different(*sides)
    if not chosen:
        return []
    metadata = Metadata()
    metadata.thing_classes = [str(c.get("name", c["id"])) for c in truth.categories]
    to_index = {c["id"]: k for k, c in enumerate(truth.categories)}
    metadata.thing_dataset_id_to_contiguous_id = to_index
    root = a.card["val"].get("images", "") if a.card["val"].get("part", "all") == "all" else ""
    wanted = {row[0] for row in chosen}
    records = [r for r in load_coco_json(str(_ground_truth_file(a)), root) if r["image_id"] in wanted]
    for record in records:
        record["annotations"] = [
            {**x, "category_id": to_index[x["category_id"]]} for x in record["annotations"]
        ]
    by_id = {r["image_id"]: r for r in records}
    found = [load_predictions(run.folder / RESULTS, records, metadata) for run in (a, b)]
    pictures = []
    for number, (image_id, errors_a, errors_b) in enumerate(chosen):
        record = by_id[image_id]
        if not Path(record["file_name"]).is_file():
            continue
        image = utils.read_image(record["file_name"], "RGB")
        row = [draw_labels(image, record, metadata)]
        row += [draw_instances(image, visible(side[image_id]), metadata) for side in found]
        path = scratch / f"{number}.jpg"
        save_row(row, path)
        caption = f"{Path(record['file_name']).name}: A has {counted(errors_a, 'error')}, B {errors_b}"
        pictures.append(figure(path, caption))
    return pictures
