"""Find the files of YOLO labels: settings, images of each part, and the label file of each image."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.utils.file_io.text import read_yaml

from ..image_finder import ImageFinder, as_spelled, files_below, name_parts
from .base import FormatError, images_below, read_lines

__all__ = ["MOST_CLASSES", "Setup", "is_yolo", "label_pairs", "parts_of", "read_setup"]

MOST_CLASSES = 100_000
_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Setup:
    """Settings beside YOLO labels: root folder, settings file, its values, and class names."""

    root: Path
    file: Path | None
    values: Mapping[str, Any]
    names: list[str] | None


def read_setup(path: Path) -> Setup:
    """Read ``data.yaml`` (also of a folder above), or ``obj.data`` and ``obj.names``, or ``classes.txt``."""
    root = path.parent if path.is_file() else path
    if path.is_file() and path.suffix == ".data":
        return _darknet(root, path)
    yamls = [path] if path.is_file() else [f / n for n in _YAML for f in (root, *list(root.parents)[:2])]
    file = next((f for f in yamls if f.is_file()), None)
    values = {} if file is None else read_yaml(file) or {}
    if not isinstance(values, Mapping):
        raise FormatError(
            f"{file}: expected 'names', 'train', 'val' and the like, got a {type(values).__name__}"
        )
    if file is None and (root / "obj.data").is_file():
        return _darknet(root, root / "obj.data")
    return Setup(root, file, values, _names(values, root, file))


def _darknet(root: Path, file: Path) -> Setup:
    """Read the settings of YOLO 1.1 (``train = data/train.txt``), as CVAT exports them."""
    pairs = (line.partition("=") for _, line in read_lines(file))
    values: dict[str, Any] = {key.strip(): value.strip() for key, _, value in pairs}
    if "valid" in values:
        values["val"] = values.pop("valid")
    named = root / Path(values.get("names", "obj.names")).name
    names = [line for _, line in read_lines(named)] if named.is_file() else None
    return Setup(root, file, values, names)


def _names(settings: Mapping[str, Any], root: Path, file: Path | None) -> list[str] | None:
    names = settings.get("names")
    if isinstance(names, Mapping):
        if not all(isinstance(k, int) or str(k).isdigit() for k in names):
            raise FormatError(f"{file}: the keys of 'names' must be class numbers, got {list(names)[:5]}")
        numbered = {int(k): v for k, v in names.items()}
        names = [numbered.get(i, i) for i in range(min(max(numbered, default=-1) + 1, MOST_CLASSES))]
    if isinstance(names, str):
        names = [n.strip() for n in names.split(",")]
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(n, (str, int, float)) for n in names):
            raise FormatError(f"{file}: 'names' must be a list of names, got {str(names)[:80]}")
        return [str(n) for n in names]
    for listed in (root / "classes.txt", root / "labels" / "classes.txt", root / "obj.names"):
        if listed.is_file():
            return [line for _, line in read_lines(listed)]
    return None


def _listed(setup: Setup, split: str) -> Any:
    return next((setup.values[k] for k in _PARTS[split] if setup.values.get(k)), None)


def _place(setup: Setup, entry: str) -> Path:
    """Return the folder or list file that an entry of the settings refers to.

    Tools write paths relative to the folder of the training program, so that ``../train/images`` is often beside the
    file.
    """
    base = setup.root / str(setup.values.get("path") or ".")
    parts = name_parts(entry)
    tried = [base / entry, setup.root / entry, *(setup.root.joinpath(*parts[n:]) for n in range(len(parts)))]
    found = next((p for p in tried if p.exists()), None)
    if found is None:
        raise FormatError(f"{setup.file}: {entry!r} is neither at {tried[0]} nor at {tried[1]}")
    return found


def _images_of(setup: Setup, split: str) -> dict[str, Path]:
    """Return the images of a part: key -> path."""
    entries = _listed(setup, split)
    found: dict[str, Path] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        place = _place(setup, str(entry))
        if place.is_dir():
            found |= {f"{split}/{key}": path for key, path in images_below(place).items()}
            continue
        finder = ImageFinder(place.parent, setup.root)
        for _, line in read_lines(place):
            image = finder.find(line)
            if image is None:
                raise FormatError(f"{place}: no image, or several, below {place.parent} match {line!r}")
            found[str(image.with_suffix(""))] = image
    return found


def _folders(root: Path, images: Path | None) -> tuple[Path, Path]:
    """Return the folders of images and labels; the root may contain both or be one of the two."""
    labels = root / "labels" if (root / "labels").is_dir() else root
    if images is not None:
        return Path(images), labels
    if (root / "images").is_dir():
        return root / "images", labels
    if labels == root and root.name == "labels" and (root.parent / "images").is_dir():
        return root.parent / "images", root
    return root, labels


def _label_file(image: Path) -> Path:
    """Return the label file of an image: beside it, or in ``labels`` if the image is in ``images``."""
    parts, beside = list(image.parts), as_spelled(image.with_suffix(".txt"))
    if "images" in parts:
        at = len(parts) - 1 - parts[::-1].index("images")
        other = as_spelled(Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt"))
        if other.is_file() or not beside.is_file():
            return other
    return beside


def label_pairs(setup: Setup, images: str | None, split: str | None) -> dict[str, tuple[Path, Path]]:
    """Return the images with their label files, which need not exist."""
    if split is not None and _listed(setup, split):
        return {key: (path, _label_file(path)) for key, path in _images_of(setup, split).items()}
    image_dir, label_dir = _folders(setup.root, Path(images) if images else None)
    if split is not None:
        part = next((n for n in _PARTS[split] if (image_dir / n).is_dir()), split)
        image_dir, label_dir = image_dir / part, label_dir / part
    found = images_below(image_dir)
    if not found:
        raise FormatError(f"no images below {image_dir}")
    own = label_dir != image_dir or image_dir == setup.root
    return {
        key: (
            path,
            file if own and (file := as_spelled(label_dir / f"{key}.txt")).is_file() else _label_file(path),
        )
        for key, path in found.items()
    }


def is_yolo(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (".yaml", ".yml", ".data")
    if any((path / name).is_file() for name in (*_YAML, "obj.data")):
        return True
    labels = _folders(path, None)[1]
    if "images" in path.parts:
        first = next(iter(images_below(path).values()), None)
        labels = labels if first is None else _label_file(first).parent
    texts = (f for f in files_below(labels) if f.suffix == ".txt" and f.name != "classes.txt")
    return any(_has_yolo_line(f) for f in itertools.islice(texts, 20))


def _has_yolo_line(file: Path) -> bool:
    """Return whether the first line has at least five numbers; an empty file counts as well."""
    try:
        line = next((line for _, line in read_lines(file)), "")
        return all(map(math.isfinite, map(float, line.split()))) and len(line.split()) not in (1, 2, 3, 4)
    except (ValueError, OSError):
        return False


def parts_of(path: Path) -> dict[str, dict[str, Any]]:
    setup = read_setup(path)
    images, _ = _folders(setup.root, None)
    if setup.file is not None and setup.file.parent == setup.root:
        named = [part for part in _PARTS if _exists(setup, part)]
        if {"train", "val"} <= set(named):
            train, val = (set(_images_of(setup, part).values()) for part in ("train", "val"))
            if val <= train:  # nothing is held out
                named = [] if named == ["train", "val"] and val == train else [p for p in named if p != "val"]
        return {part: {"split": part} for part in named}
    found = {part: any((images / name).is_dir() for name in names) for part, names in _PARTS.items()}
    return {part: {"split": part} for part, there in found.items() if there and images.name == "images"}


def _exists(setup: Setup, part: str) -> bool:
    """Return whether the settings name a part; a test part without files is ignored."""
    if not _listed(setup, part):
        return False
    try:
        _images_of(setup, part)
    except FormatError:
        if part == "test":
            return False
        raise
    return True
