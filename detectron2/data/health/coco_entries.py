"""Read the entries of a COCO file, converting values of the wrong type and reporting what cannot be read."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.image_io import READ_ERRORS, image_size

from ..image_finder import ImageFinder
from .report import Finding

__all__ = ["CocoEntries", "read_entries", "structure"]

_KEPT = ("area", "ignore", "num_keypoints", "id")


@dataclass
class CocoEntries:
    """The content of a COCO file as records.

    Attributes:
        records: one per image, with class numbers instead of category ids, and file names that can be opened.
        categories: entries of the file, in the order of the class numbers, with integer ids.
        findings: what could not be read, or was converted.
        mended: whether the records differ from the file.
        class_of: category id -> class number.
    """

    source: str
    records: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    mended: bool = False
    class_of: dict[int, int] = field(default_factory=dict)

    def add(self, kind: str, value: str, annotation: Any = None, file: str | None = None) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, file or self.source, value, annotation))

    def mend(self, value: str) -> None:
        """Add a finding about converted values, once for each text."""
        self.mended = True
        if not any(f.kind == "value-mended" and f.value == value for f in self.findings):
            self.add("value-mended", value)


def structure(content: object, source: str) -> list[Finding]:
    """Find defects of the structure, which prevent all further checks."""
    if not isinstance(content, Mapping):
        hint = " (results of a model?)" if isinstance(content, list) else ""
        kind = type(content).__name__
        return [Finding("malformed", source, f"a {kind} instead of an object with 'images'{hint}")]
    bad = []
    for key, wanted in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
        entries = content.get(key)
        if not isinstance(entries, list):
            what = "missing" if entries is None else f"a {type(entries).__name__}"
            bad.append(Finding("malformed", source, f"{key!r} is {what} instead of a list"))
            continue
        for n, entry in enumerate(entries):
            if not isinstance(entry, Mapping) or any(
                not isinstance(entry.get(k), (str, int, float)) for k in wanted
            ):
                bad.append(Finding("malformed", source, f"{key}[{n}] needs {' and '.join(wanted)}"))
    if not isinstance(content.get("annotations", []), list):
        bad.append(Finding("malformed", source, "'annotations' is not a list"))
    elif any(isinstance(a, Mapping) and "segments_info" in a for a in content.get("annotations", [])[:5]):
        bad.append(Finding("malformed", source, "panoptic labels (segments_info) instead of boxes"))
    return bad


def _whole(value: object) -> int | None:
    """Return an integer that may be given as text or as 3.0; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) else None
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class _Ids:
    """Integer ids of images or categories, which labels may refer to by number or text."""

    def __init__(self, raw: Sequence[Any], what: str, out: CocoEntries) -> None:
        whole = [_whole(v) for v in raw]
        self.numbers: list[int] = [v for v in whole if v is not None]
        if len(self.numbers) < len(raw):
            self.numbers = list(range(1, len(raw) + 1))
            out.mend(
                f"{what} ids that are text, such as {next(v for v in raw if _whole(v) is None)!r}, are numbered"
            )
        elif any(type(v) is not int for v in raw):
            out.mend(f"{what} ids that are text are read as numbers")
        self.out, self.what = out, what
        self.known: dict[Any, int] = {}
        self.texts: dict[str, int] = {}
        for value, number in zip(raw, self.numbers):
            self.known.setdefault(value, number)
            self.texts.setdefault(_text(value), number)

    def find(self, value: object) -> int | None:
        """Return the integer id that a value refers to; None if there is none."""
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            return None
        if type(value) is int and value in self.known:
            return self.known[value]
        found = self.texts.get(_text(value))
        if found is not None and value not in self.known:
            self.out.mend(
                f"{self.what} ids of labels are text where the list has numbers, or the other way round"
            )
        return found


def _text(value: object) -> str:
    number = _whole(value)
    return str(value).strip() if number is None else str(number)


def read_entries(content: Mapping[str, Any], source: str, finder: ImageFinder) -> CocoEntries:
    """Read the entries of a COCO file without defects of :func:`structure`.

    Args:
        content: of the file.
        source: the file.
        finder: finds the images.
    """
    out = CocoEntries(source)
    classes = _categories(content["categories"], out)
    images = content["images"]
    ids = _Ids([i["id"] for i in images], "image", out)
    of_image: dict[int, dict[str, Any]] = {}
    for entry, number in zip(images, ids.numbers):
        record = _record(entry, number, finder, out)
        of_image.setdefault(number, record)
        out.records.append(record)
    seen: set[Any] = set()
    for position, raw in enumerate(content.get("annotations", [])):
        if not isinstance(raw, Mapping):
            out.add("label-malformed", f"a {type(raw).__name__}", position)
            continue
        _add_label(raw, position, of_image, ids, classes, seen, out)
    if any(f.severity in ("error", "skip") for f in out.findings):
        out.mended = True
    for name, path in finder.moved.items():
        out.add("image-moved", f"{name} is {path}")
        out.mended = True
    for name, paths in finder.doubtful.items():
        out.add("image-doubtful", f"{name}: {', '.join(map(str, paths[:5]))}")
    return out


def _categories(entries: Sequence[Mapping[str, Any]], out: CocoEntries) -> "_Ids":
    """Store the categories in the order of their ids, and return the ids."""
    ids = _Ids([c["id"] for c in entries], "category", out)
    seen: dict[int, Any] = {}
    names: set[str] = set()
    for entry, number in zip(entries, ids.numbers):
        if number in seen:
            out.add("category-id-duplicate", f"id {entry['id']}: {seen[number]!r} and {entry['name']!r}")
            continue
        seen[number] = entry["name"]
        if str(entry["name"]) in names:
            out.add("category-name-duplicate", repr(entry["name"]))
        names.add(str(entry["name"]))
        out.categories.append({**entry, "id": number, "name": str(entry["name"])})
    out.categories.sort(key=lambda c: c["id"])
    out.class_of = {c["id"]: i for i, c in enumerate(out.categories)}
    return ids


def _record(entry: Mapping[str, Any], number: int, finder: ImageFinder, out: CocoEntries) -> dict[str, Any]:
    name = str(entry["file_name"])
    path = finder.find(name)
    file = str(path) if path is not None else os.path.join(finder.folders[0], name)
    height, width = _whole(entry.get("height")), _whole(entry.get("width"))
    if not height or not width or height < 0 or width < 0:
        out.add(
            "image-size-absent", f"height {entry.get('height')!r}, width {entry.get('width')!r}", file=file
        )
        out.mended = True
        height = width = None
        if path is not None:
            try:
                height, width = image_size(path)
            except (*READ_ERRORS, ValueError):
                pass  # the check of the images reports it
    return {"file_name": file, "height": height, "width": width, "image_id": number, "annotations": []}


def _add_label(
    raw: Mapping[str, Any],
    position: int,
    of_image: Mapping[int, dict[str, Any]],
    images: _Ids,
    categories: _Ids,
    seen: set[Any],
    out: CocoEntries,
) -> None:
    name = raw.get("id", position)
    name = name if isinstance(name, (str, int, float)) else str(name)[:80]
    number = images.find(raw.get("image_id"))
    if number is None:
        out.add("annotation-stray", f"image_id {_short(raw.get('image_id'))}", name)
        return
    record = of_image[number]
    if "id" in raw and name in seen:
        out.add("annotation-id-duplicate", f"id {name}", name, record["file_name"])
    seen.add(name)
    category = categories.find(raw.get("category_id"))
    if category is None:
        known = ", ".join(str(c["id"]) for c in out.categories[:10])
        value = f"category_id {_short(raw.get('category_id'))} of {out.source}, known are {known}"
        out.add("category-unknown", value, name, record["file_name"])
        return
    record["annotations"].append(_label(raw, out.class_of[category], name, out))


def _short(value: object) -> str:
    return repr(value)[:80]


def _label(raw: Mapping[str, Any], category: int, name: object, out: CocoEntries) -> dict[str, Any]:
    made: dict[str, Any] = {"category_id": category, "iscrowd": _crowd(raw.get("iscrowd", 0), out)}
    made |= {k: raw[k] for k in _KEPT if k in raw}
    made["id"] = name
    box = raw.get("bbox")
    if box is not None:
        made["bbox"] = _numbers(box, "boxes", out)
        rotated = isinstance(box, (list, tuple)) and len(box) == 5
        made["bbox_mode"] = BoxMode.XYWHA_ABS if rotated else BoxMode.XYWH_ABS
    mask = _segmentation(raw.get("segmentation"), out)
    if mask is not None:
        made["segmentation"] = mask
    points = raw.get("keypoints")
    if isinstance(points, list) and points:
        made["keypoints"] = _numbers(points, "keypoints", out)
    elif points:
        made["keypoints"] = [math.nan]  # not a list: the check reports it
    return made


def _crowd(value: object, out: CocoEntries) -> int:
    if type(value) is int and value in (0, 1):
        return value
    out.mend(f"iscrowd {_short(value)} is read as {int(_whole(value) == 1 or value is True)}")
    return int(_whole(value) == 1 or value is True)


def _numbers(values: object, what: str, out: CocoEntries) -> Any:
    """Convert numbers given as text; other values are returned unchanged, for the check."""
    if isinstance(values, (list, tuple)) and any(isinstance(v, str) for v in values):
        try:
            numbers = [float(v) for v in values]
        except (TypeError, ValueError):
            return values
        out.mend(f"{what} of text are read as numbers")
        return numbers
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_pair(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_number, value))


def _segmentation(value: object, out: CocoEntries) -> Any:
    """Return polygons or RLE, or None if empty; outlines as pairs or as one flat list become polygons."""
    if value is None or (isinstance(value, (list, Mapping, str)) and not len(value)):
        return None
    if not isinstance(value, list):
        return value
    if all(map(_is_number, value)):
        out.mend("outlines that are one flat list are read as one polygon")
        return [value]
    if all(map(_is_pair, value)) and len(value) >= 3:
        out.mend("outlines of pairs [x, y] are read as polygons")
        return [[v for pair in value for v in pair]]
    if all(isinstance(p, list) and p and all(map(_is_pair, p)) for p in value):
        out.mend("outlines of pairs [x, y] are read as polygons")
        return [[v for pair in p for v in pair] for p in value]
    return value
