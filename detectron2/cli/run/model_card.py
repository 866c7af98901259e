"""The page ``model_card.md`` of a run: what the model is, what it was made from, and what may be done with it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.engine.run_folder import RunCard
from detectron2.model_zoo.licences import data_licences
from detectron2.model_zoo.project_checkpoints import PROJECT_WEIGHTS
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.licences import UNKNOWN, Licence, weights_licence

from .evaluation import main_results

__all__ = ["FILE", "card_text", "origin_of", "write_card"]

FILE = "model_card.md"
_LONGEST_CHAIN = 20

OURS = Licence("Apache-2.0", "permissive", "LICENSE of this package")
YOURS = Licence("yours to say", "unknown", "the owner of the data")


def origin_of(weights: str) -> str:
    """Follow weights of earlier runs to the published ones that the first of these runs began with.

    Args:
        weights: URL, or local file; of a file in the folder of a run, ``run.json`` says what that run began with.

    Returns:
        A URL or the path of a file that no run made; "" if the first run began with random weights.
    """
    for _ in range(_LONGEST_CHAIN):
        card = Path(os.path.dirname(weights) or ".") / "run.json"
        if not weights or "://" in weights or not card.is_file():
            break
        try:
            weights = str(json.loads(card.read_text(encoding="utf-8"))["weights"])
        except (OSError, ValueError, KeyError, TypeError):
            break
    return weights


def write_card(folder: Path, card: RunCard, summary: Mapping[str, Any]) -> Path:
    """Write the page into the folder of a run.

    Args:
        folder: of the run.
        card: of the run.
        summary: figures of the evaluation, as ``evaluate_run`` returns them.
    """
    path = folder / FILE
    with atomic_write(path) as f:
        f.write(card_text(card, summary))
    return path


def card_text(card: RunCard, summary: Mapping[str, Any]) -> str:
    """Return the page as Markdown."""
    lines = [
        f"# {card.model}, trained on {len(card.classes)} classes",
        "",
        f"Made by `{' '.join(card.command)}` with seed {card.seed} and {_versions(card.versions)}.",
        "",
        "## Licences",
        "",
        *_licences(card),
        "",
        "## Classes",
        "",
        ", ".join(card.classes),
        "",
        "## Data",
        "",
        "| part | images | labels | file |",
        "|---|---|---|---|",
        *(
            f"| {name} | {part.num_images} | {part.num_instances} | {part.json} |"
            for name, part in (("training", card.train), ("validation", card.val))
        ),
        "",
        "## Figures",
        "",
        f"Of `{summary.get('weights', 'the weights')}` after {summary.get('iterations', '?')} steps, on the validation data:",
        "",
        "| metric | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in main_results(summary).items()),
    ]
    return "\n".join(lines) + "\n"


def _licences(card: RunCard) -> list[str]:
    origin = origin_of(card.weights)
    rows = [("code", "detectron2", OURS)]
    if origin:
        rows.append(("base weights", origin, weights_licence(origin)))
        path = next((name for name, url in PROJECT_WEIGHTS.items() if url == origin), None)
        if path or weights_licence(origin) is not UNKNOWN:
            rows += [
                ("data of the base weights", name, data) for name, data in _data_of(origin, path).items()
            ]
    drawn = card.model.startswith("quickstart/")  # whose pictures come with the package
    rows.append(("training data", card.train.json, OURS if drawn else YOURS))
    table = ["| part | what | licence | who says so |", "|---|---|---|---|"]
    table += [f"| {part} | {what} | {licence.name} | {licence.source} |" for part, what, licence in rows]
    restricted = [part for part, _, licence in rows if licence.kind == "non-commercial"]
    if not origin:
        table += ["", "Training began with random weights."]
    elif "base weights" in restricted:
        table += ["", "**Not for commercial use**: the model is made from weights that forbid it."]
    return table


def _data_of(origin: str, path: str | None) -> dict[str, Licence]:
    """Return the data sets of published weights; those of the zoo have the path of their config in the address."""
    return data_licences("imagenet" if "ImageNetPretrained" in origin else path or origin)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
