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

__all__ = ["chart", "data_uri", "figure", "percent", "read_json", "read_lines", "render", "without_nan"]


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("detectron2.reports"),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )


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


def chart(title: str, svg: str) -> dict[str, Any]:
    """Return a chart with its title, for the templates."""
    return {"title": title, "svg": Markup(svg)}


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
