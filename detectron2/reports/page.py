"""Rendering of templates, images as data URIs, and formatting of numbers."""

import base64
import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from detectron2 import __version__
from detectron2.utils.file_io.atomic import atomic_write

__all__ = [
    "chart", "counted", "data_uri", "duration", "figure", "percent", "read_json", "read_lines", "render", "short",
    "without_nan",
]  # fmt: skip

UNDEFINED = -100  # LVIS metrics without ground truth


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("detectron2.reports"),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["counted"] = counted
    return environment


def render(template: str, path: Path, **values: Any) -> Path:
    """Render a template and write it atomically, so that a browser never sees a partial page.

    Args:
        template: file name in ``templates/``.
        path: page to write.
        **values: variables of the template.
    """
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    text = _environment().get_template(template).render(version=__version__, written=written, **values)
    with atomic_write(path) as f:
        f.write(text)
    return path


def chart(title: str, svg: str, note: str = "") -> dict[str, Any]:
    """Return a chart with its title and a note below it, for the templates."""
    return {"title": title, "svg": Markup(svg), "note": note}


def figure(path: Path, caption: str) -> dict[str, str]:
    """Return an image with its caption, for the templates."""
    return {"uri": data_uri(path), "caption": caption, "alt": caption}


def data_uri(path: Path) -> str:
    """Return an image file as a data URI, so that the page stays one file."""
    kind = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}[path.suffix.lower()]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def percent(value: float | None, digits: int = 1) -> str:
    """Format a fraction in percent; a dash for None, NaN and COCO's -1 for "no ground truth"."""
    if value is None or not math.isfinite(value) or value < 0:
        return "–"
    return f"{100 * value:.{digits}f}"


def short(value: object) -> str:
    """Format a figure with three digits; a dash if it is undefined."""
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value == UNDEFINED:
        return "–"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun: ``1 image``, ``2 images``, ``118,287 images``, ``3 classes``.

    Args:
        number: the number.
        noun: singular.
        plural: plural; by default, ``noun`` with "s", or "es" after "s".
    """
    many = plural or noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else many}"


def duration(seconds: float) -> str:
    """Write a duration: ``5 s``, ``3 min 20 s``, ``2 h``, ``1 h 5 min``, ``2 d 3 h``."""
    left = max(round(seconds), 0)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        parts.append((number, unit))
    first = next((k for k, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{n} {unit}" for n, unit in parts[first : first + 2] if n) or "0 s"


def without_nan(value: object) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the records of a file with one JSON object per line, except incomplete lines after a crash."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
