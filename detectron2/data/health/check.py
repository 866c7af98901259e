"""Check records, leave out their defects, and find duplicate images."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .annotations import Expected, annotations_of, check_annotations, without_defects
from .images import ImageCheck, add_image_findings, content_groups, near_duplicate_pairs
from .panoptic import segment_defects
from .report import KINDS, Finding, HealthReport
from .whole import whole_defects

__all__ = ["check_dataset_dicts", "find_duplicates", "find_leakage", "repair"]

logger = logging.getLogger(__name__)


def check_dataset_dicts(
    dataset_dicts: Sequence[Mapping[str, Any]],
    num_classes: int | None = None,
    *,
    images: ImageCheck = "header",
    masks: bool = False,
    num_keypoints: int | None = None,
    threads: int | None = None,
    source: str = "data set",
) -> HealthReport:
    """Check records before training.

    Args:
        dataset_dicts: records; they are not changed.
        num_classes: category ids must be below this; None: not checked.
        images: how thoroughly image files are checked: ``none``, ``exists``, ``header`` (size, truncation) or
            ``decode`` (all pixels).
        masks: report annotations without a segmentation.
        num_keypoints: keypoints that each annotation with keypoints must have.
        threads: number of files read in parallel; default: by the number of cores.
        source: name of the data in the report.
    """
    report = HealthReport(source=source, num_images=len(dataset_dicts))
    if not dataset_dicts:
        report.add([Finding("no-images", source)])
        return report
    expected = Expected(num_classes, num_keypoints, masks)
    every = [annotations_of(record) for record in dataset_dicts]
    labelled = any("annotations" in r for r in dataset_dicts)
    other_labels = any("sem_seg_file_name" in r or "pan_seg_file_name" in r for r in dataset_dicts)
    for index, record in enumerate(dataset_dicts):
        if "file_name" not in record and "image" not in record:
            report.add([Finding("malformed", f"record {index}", "no file_name", index=index)])
        annotations = every[index]
        report.num_annotations += len(annotations)
        report.add(check_annotations(record, annotations, index, expected))
        if not annotations and not other_labels and any(every):
            report.add([Finding("image-unlabelled", str(record.get("file_name", index)), index=index)])
        if "pan_seg_file_name" in record and images in ("header", "decode"):
            report.add(segment_defects(record, index))
    report.add(whole_defects(every, dataset_dicts, source))
    report.add(_duplicate_images(dataset_dicts))
    if labelled and not other_labels and report.num_annotations == 0:
        report.add([Finding("no-annotations", source)])
    add_image_findings(report, dataset_dicts, images, threads)
    return report


def _duplicate_images(records: Sequence[Mapping[str, Any]]) -> list[Finding]:
    found = []
    for key, kind in (("image_id", "image-id-duplicate"), ("file_name", "image-duplicate")):
        first: dict[Any, int] = {}
        for index, record in enumerate(records):
            value = record.get(key)
            if value is not None and first.setdefault(value, index) != index:
                also = records[first[value]].get("file_name", "?")
                found.append(
                    Finding(
                        kind, str(record.get("file_name", "?")), f"{key} {value}, also {also}", index=index
                    )
                )
    return found


def repair(dataset_dicts: Sequence[Mapping[str, Any]], report: HealthReport) -> list[dict[str, Any]]:
    """Leave out the images, annotations and polygons that a report marks as skip, and log their number.

    Args:
        dataset_dicts: the records that were checked, in the same order; they are not changed.
        report: from :func:`check_dataset_dicts`.

    Returns:
        A new list. Records without a defect are the same objects, others are shallow copies without the bad
        annotations or polygons; an annotation that loses its last polygon is removed as well.
    """
    by_record: dict[int, list[Finding]] = defaultdict(list)
    for finding in report.skips:
        by_record[finding.index].append(finding)
    kept: list[dict[str, Any]] = []
    for index, record in enumerate(dataset_dicts):
        found = by_record.get(index)
        if not found:
            kept.append(record)  # type: ignore[arg-type]
        elif not any(KINDS[f.kind].action == "drop-image" for f in found):
            mended = {**record}
            if "annotations" not in record and "segments_info" in record:
                mended["segments_info"] = without_defects(record["segments_info"], found)
            else:
                mended["annotations"] = without_defects(annotations_of(record), found)
            kept.append(mended)
    if report.skips:
        logger.warning(
            "%s: left out defects: %s",
            report.source,
            ", ".join(f"{n} × {k}" for k, n in _skipped(report).items()),
        )
    return kept


def _skipped(report: HealthReport) -> dict[str, int]:
    return {KINDS[k].title: n for k, n in report.counts().items() if KINDS[k].severity == "skip"}


def find_duplicates(
    dataset_dicts: Sequence[Mapping[str, Any]], *, near: bool = False, threads: int | None = None
) -> list[list[str]]:
    """Group image files that contain the same image.

    Args:
        dataset_dicts: records.
        near: also find resized or recompressed images (by a 64-bit fingerprint).
        threads: number of files read in parallel.
    """
    files = [str(r["file_name"]) for r in dataset_dicts]
    groups = content_groups(files, threads)
    if near:
        known = {f for group in groups for f in group}
        pairs = near_duplicate_pairs(files, files, threads=threads)
        groups += [[a, b] for a, b, _ in pairs if not (a in known and b in known)]
    return groups


def find_leakage(
    splits: Mapping[str, Sequence[Mapping[str, Any]]], *, near: bool = True, threads: int | None = None
) -> list[dict[str, str]]:
    """Find images that are in more than one split, which makes results look better than they are.

    Args:
        splits: name -> records.
        near: also find resized or recompressed images.
        threads: number of files read in parallel.

    Returns:
        One dict per pair: ``split_a``, ``file_a``, ``split_b``, ``file_b`` and ``how`` (``file``, ``bytes`` or
        ``looks``).
    """
    names = list(splits)
    files = {n: list(dict.fromkeys(str(r["file_name"]) for r in splits[n])) for n in names}
    found: dict[tuple[str, str, str, str], str] = {}
    groups = content_groups([f for n in names for f in files[n]], threads)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            in_a, in_b = set(files[a]), set(files[b])
            found.update({(a, f, b, f): "file" for f in files[a] if f in in_b})
            for group in groups:
                found |= {
                    (a, x, b, y): "bytes" for x in group for y in group if x in in_a and y in in_b and x != y
                }
            if near:
                for x, y, _ in near_duplicate_pairs(files[a], files[b], threads=threads):
                    found.setdefault((a, x, b, y), "looks")
    return [dict(zip(("split_a", "file_a", "split_b", "file_b"), key), how=how) for key, how in found.items()]
