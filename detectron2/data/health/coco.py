"""Checking a COCO file as it is, and writing a mended copy."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.atomic import atomic_write
from detectron2.utils.file_io import PathManager

from .annotations import Expected, check_annotations, without_defects
from .images import ImageCheck, add_image_findings
from .report import KINDS, Finding, HealthReport

__all__ = ["check_coco_json", "prepare_coco_json", "repair_coco"]

logger = logging.getLogger(__name__)


def _read(json_file: str) -> Any:
    """Parse a file; raise ValueError if it is not JSON."""
    with PathManager.open(json_file, "r") as f:
        try:
            return json.load(f)
        except json.JSONDecodeError as error:
            raise ValueError(f"{json_file} is no whole JSON file: {error}") from error


def _structure(content: object, source: str) -> list[Finding]:
    """Find what makes the rest of the check pointless."""
    if not isinstance(content, Mapping):
        return [
            Finding("malformed", source, f"a {type(content).__name__} instead of an object with 'images'")
        ]
    bad = []
    for key, wanted in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
        entries = content.get(key)
        if not isinstance(entries, list):
            bad.append(Finding("malformed", source, f"{key!r} is missing or no list"))
            continue
        for n, entry in enumerate(entries):
            if not isinstance(entry, Mapping) or any(k not in entry for k in wanted):
                bad.append(Finding("malformed", source, f"{key}[{n}] needs {' and '.join(wanted)}"))
    if not isinstance(content.get("annotations", []), list):
        bad.append(Finding("malformed", source, "'annotations' is no list"))
    return bad


def _repeated(
    entries: Sequence[Mapping[str, Any]], kind: str, files: Mapping[Any, str], source: str
) -> list[Finding]:
    seen: set[Any] = set()
    found = []
    for entry in entries:
        if "id" not in entry:
            continue
        key = entry["id"]
        if key in seen:
            file = files.get(entry.get("image_id", key), source)
            found.append(Finding(kind, file, f"id {key}", key if kind.startswith("annotation") else None))
        seen.add(key)
    return found


def _num_keypoints(content: Mapping[str, Any]) -> int | None:
    """Return the number of keypoints that all categories with keypoints share."""
    named = {len(c["keypoints"]) for c in content["categories"] if c.get("keypoints")}
    return named.pop() if len(named) == 1 else None


def check_coco_json(
    json_file: str,
    image_root: str,
    *,
    images: ImageCheck = "header",
    masks: bool = False,
    num_keypoints: int | None = None,
    threads: int | None = None,
    content: Mapping[str, Any] | None = None,
) -> HealthReport:
    """Check a COCO file and the images that it names.

    Args:
        json_file: path or address.
        image_root: folder against which ``file_name`` is meant.
        images: how far files are looked at; see :func:`~detectron2.data.health.check_dataset_dicts`.
        masks: note annotations without a segmentation.
        num_keypoints: keypoints per annotation; default: as many as the categories in the file name.
        threads: files read at a time.
        content: the parsed file, if it is at hand.
    """
    source = str(json_file)
    content = _read(source) if content is None else content
    report = HealthReport(source=source)
    report.add(_structure(content, source))
    if report.findings:
        return report
    entries, annotations = content["images"], content.get("annotations", [])
    report.num_images, report.num_annotations = len(entries), len(annotations)
    if not entries or not annotations:
        report.add([Finding("no-annotations" if entries else "no-images", source)])
    if not entries:
        return report
    files = {e["id"]: os.path.join(image_root, e["file_name"]) for e in entries}
    report.add(_repeated(entries, "image-id-duplicate", files, source))
    report.add(_repeated(annotations, "annotation-id-duplicate", files, source))
    records, strays = _records(content, files)
    report.add(
        Finding("annotation-stray", source, f"image_id {a.get('image_id')!r}", a.get("id"), position=p)
        for p, a in strays
    )
    num_keypoints = _num_keypoints(content) if num_keypoints is None else num_keypoints
    expected = Expected(len(content["categories"]), num_keypoints, masks)
    for index, record in enumerate(records):
        report.add(check_annotations(record, record["annotations"], index, expected))
        if not record["annotations"] and annotations:
            report.add([Finding("image-unlabelled", record["file_name"], index=index)])
    add_image_findings(report, records, images, threads)
    return report


def _records(
    content: Mapping[str, Any], files: Mapping[Any, str]
) -> tuple[list[dict[str, Any]], list[tuple[int, Any]]]:
    """Return the images in the order of the file with their annotations, and annotations without an image."""
    numbers = {c["id"]: i for i, c in enumerate(content["categories"])}
    records = [
        {
            "file_name": files[e["id"]], "height": e.get("height"), "width": e.get("width"), "image_id": e["id"],
            "annotations": [],
        }
        for e in content["images"]
    ]  # fmt: skip
    of_image: dict[Any, dict[str, Any]] = {}
    for record in records:
        of_image.setdefault(record["image_id"], record)
    strays: list[tuple[int, Any]] = []
    for position, anno in enumerate(content.get("annotations", [])):
        found = of_image.get(anno.get("image_id")) if isinstance(anno, Mapping) else None
        if found is None:
            strays.append((position, anno if isinstance(anno, Mapping) else {}))
            continue
        category = anno.get("category_id")
        known = numbers.get(category, -1) if isinstance(category, int) else -1
        changed = {**anno, "category_id": known, "bbox_mode": BoxMode.XYWH_ABS, "_category_in_file": category}
        found["annotations"].append(changed)
    return records, strays


def repair_coco(content: Mapping[str, Any], image_root: str, report: HealthReport) -> dict[str, Any]:
    """Leave out what a report calls a skip, and number annotations anew where ids repeat.

    Args:
        content: the parsed file that was checked; it is not changed.
        image_root: as in the check.
        report: from :func:`check_coco_json`.
    """
    skips = report.skips
    by_record: dict[int, list[Finding]] = {}
    for f in skips:
        by_record.setdefault(f.index, []).append(f)
    files = {e["id"]: os.path.join(image_root, e["file_name"]) for e in content["images"]}
    records, _ = _records(content, files)
    images, annotations = [], []
    for index, (entry, record) in enumerate(zip(content["images"], records)):
        found = [f for f in by_record.get(index, ()) if f.index >= 0]
        if any(KINDS[f.kind].action == "drop-image" for f in found):
            continue
        images.append(entry)
        for anno in without_defects(record["annotations"], found):
            plain = {k: v for k, v in anno.items() if k not in ("bbox_mode", "_category_in_file")}
            annotations.append({**plain, "category_id": anno["_category_in_file"]})
    if any(f.kind == "annotation-id-duplicate" for f in skips):
        annotations = [{**a, "id": number} for number, a in enumerate(annotations, 1)]
    return {**content, "images": images, "annotations": annotations}


def prepare_coco_json(
    json_file: str, image_root: str, output_dir: str | os.PathLike[str], **kwargs: Any
) -> tuple[str, HealthReport]:
    """Check a COCO file and, where something must be left out, write a mended copy.

    Training and evaluation then use the same file, so that no image is missed in one and counted in the other.

    Args:
        json_file: path or address.
        image_root: folder of the images.
        output_dir: where the copy goes.
        **kwargs: go to :func:`check_coco_json`.

    Returns:
        The file to use (the given one if nothing must be left out), and the report.

    Raises:
        DataError: the report has errors.
    """
    content = _read(str(json_file))
    report = check_coco_json(json_file, image_root, content=content, **kwargs).raise_for_errors()
    if not report.skips:
        return str(json_file), report
    mended = repair_coco(content, image_root, report)
    path = Path(output_dir) / f"{Path(str(json_file)).stem}_checked.json"
    with atomic_write(path) as f:
        json.dump(mended, f)
    logger.warning("%s has defects that are left out; using %s instead", json_file, path)
    return str(path), report
