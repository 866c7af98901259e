"""Find the labels below a path, their format and their parts."""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.utils.file_io.text import read_json, read_text, read_xml, read_yaml
from detectron2.utils.suggest import did_you_mean, not_there

from ..image_finder import files_below
from .base import FORMATS, Format, FormatError, role_of

__all__ = ["Layout", "detect_format", "find_layout"]

# Formats recognised by file contents come before those recognised by folder names alone.
_ORDER = ("huggingface", "coco_panoptic", "coco", "cvat", "voc", "labelme", "dota", "yolo", "semantic")
_MOST_FOLDERS = 200  # searched if the labels are not at the top
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z")


@dataclass
class Layout:
    """Where labels are.

    Attributes:
        format: their format.
        parts: name (``train``, ``val``, ``test``; ``all`` if there are none) -> path and options of ``read``.
        origin: text that says where the parts come from; empty without parts.
        notes: remarks for the user on how the labels were found.
    """

    format: Format
    parts: dict[str, tuple[Path, Mapping[str, Any]]]
    origin: str = ""
    notes: list[str] = field(default_factory=list)


def _formats() -> list[Format]:
    formats: list[Format] = [fmt for _, fmt in FORMATS]
    return sorted(formats, key=lambda f: _ORDER.index(f.name) if f.name in _ORDER else len(_ORDER))


def _detected(where: Path, formats: Sequence[Format]) -> Format | None:
    return next((fmt for fmt in formats if fmt.detect(where)), None)


def detect_format(path: str | os.PathLike[str]) -> str:
    """Detect the format of the labels at a path.

    Raises:
        FileNotFoundError: the path does not exist.
        FormatError: no format fits; the message says what was found.
    """
    return find_layout(path).format.name


def find_layout(path: str | os.PathLike[str], format: str | None = None) -> Layout:
    """Find labels and their parts at a path, or in the only folder below it that has labels.

    Args:
        path: file or folder.
        format: name of the format; default: detected.

    Raises:
        FileNotFoundError: the path does not exist.
        FormatError: no format fits, or several folders have labels; the message says what was found.
    """
    where = Path(path)
    if format is not None and format not in FORMATS:
        raise FormatError(f"no format {format!r}. {did_you_mean(format, [f.name for f in _formats()])}")
    formats = [FORMATS.get(format)] if format else _formats()
    if not where.exists():
        if format == "huggingface":  # a name on the hub
            return Layout(formats[0], {"all": (where, {})})
        raise FileNotFoundError(not_there(where))
    if where.is_file() and where.suffix.lower() in _ARCHIVES:
        raise FormatError(f"{where} is packed: unpack it and name the folder")
    found = _at(where, formats)
    if found is not None:
        return found
    below = _below(where, formats)
    if len(below) == 1:
        layout = _at(below[0], formats)
        assert layout is not None
        layout.notes.append(f"the labels are in {below[0]}")
        return layout
    if below:
        shown = ", ".join(map(str, below[:8]))
        raise FormatError(f"{where} holds several data sets ({shown}): name one")
    if format is not None:
        return Layout(formats[0], {"all": (where, {})})  # its reader says what is missing
    raise FormatError(_explain(where))


def _at(where: Path, formats: Sequence[Format]) -> Layout | None:
    """Return the layout of the labels directly at a path; None if there are none."""
    fmt = _detected(where, formats)
    parts = fmt.parts(where) if fmt is not None else {}
    if fmt is not None and parts:
        origin = f"its own parts {', '.join(parts)}"
        return Layout(fmt, {role: (where, options) for role, options in parts.items()}, origin)
    folders = _role_folders(where)
    kinds = {role: _detected(d, formats) for role, d in folders.items()}
    known = {role: kind for role, kind in kinds.items() if kind is not None}
    if len(known) >= 2 or (known and fmt is None):
        first = next(iter(known.values()))
        same: dict[str, tuple[Path, Mapping[str, Any]]] = {
            role: (folders[role], {}) for role, kind in known.items() if kind is first
        }
        return Layout(first, same, f"its folders {', '.join(folders[r].name for r in same)}")
    return None if fmt is None else Layout(fmt, {"all": (where, {})})


def _role_folders(where: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in _folders(where):
        role = role_of(folder.name)
        if role is not None:
            found.setdefault(role, folder)
    return {role: found[role] for role in ("train", "val", "test") if role in found}


def _folders(where: Path) -> list[Path]:
    try:
        return sorted(d for d in where.iterdir() if d.is_dir() and not d.name.startswith("."))
    except OSError:
        return []


def _below(where: Path, formats: Sequence[Format]) -> list[Path]:
    """Return the sub-folders with labels at the highest level that has any."""
    level, seen = _folders(where), 0
    while level and seen < _MOST_FOLDERS:
        level = level[: _MOST_FOLDERS - seen]
        seen += len(level)
        found = [d for d in level if _at(d, formats) is not None]
        if found:
            return found
        level = [d for folder in level for d in _folders(folder)]
    return []


# ------------------------------------------------------------------ what was found instead
def _explain(where: Path) -> str:
    """Describe what a path contains, and why that is no label format."""
    files = [where] if where.is_file() else list(itertools.islice(files_below(where), 5000))
    counts = Counter(f.suffix.lower() or "(no extension)" for f in files)
    held = ", ".join(f"{n} {suffix}" for suffix, n in counts.most_common(6)) or "nothing"
    lines = [f"{where} fits no known label format; it contains {held}."]
    lines += [f"  {reason}" for reason in itertools.islice(_reasons(files), 5)]
    lines.append("Give the label file or folder itself, or the format with --format (in Python: format=…):")
    lines += [f"  {fmt.name}: {fmt.title}" for fmt in _formats()]
    return "\n".join(lines)


def _reasons(files: Sequence[Path]) -> Iterator[str]:
    readers = {".json": read_json, ".xml": read_xml, ".yaml": read_yaml, ".yml": read_yaml, ".txt": read_text}
    for file in files:
        reader = readers.get(file.suffix.lower())
        if reader is None or not file.is_file():
            continue
        try:
            content = reader(file)
        except (ValueError, OSError) as error:
            yield str(error)
            continue
        if file.suffix.lower() == ".json":
            yield f"{file}: {_json_kind(content)}"
        elif file.suffix.lower() == ".xml":
            yield f"{file}: its root is <{content.tag}>; VOC has <annotation>, CVAT <annotations>"


def _json_kind(content: object) -> str:
    if isinstance(content, list):
        return "a list, like results of a model; labels need 'images', 'annotations' and 'categories'"
    if not isinstance(content, dict):
        return f"a {type(content).__name__}, not labels"
    keys = ", ".join(str(k)[:30] for k in list(content)[:8])
    return f"its keys are {keys or 'none'}; COCO needs 'images', 'annotations' and 'categories', LabelMe 'shapes'"
