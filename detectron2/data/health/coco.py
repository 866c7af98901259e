"""Check a COCO file."""

from collections.abc import Mapping
from typing import Any

from detectron2.utils.file_io.text import read_json

from ..image_finder import ImageFinder
from .check import check_dataset_dicts
from .coco_entries import read_entries, structure
from .images import ImageCheck
from .report import HealthReport

__all__ = ["check_coco_json"]


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
        json_file: path or URL.
        image_root: folder that ``file_name`` of the images is relative to.
        images: how thoroughly image files are checked; see :func:`~detectron2.data.health.check_dataset_dicts`.
        masks: report annotations without a segmentation.
        num_keypoints: keypoints per annotation; default: as defined by the categories of the file.
        threads: number of files read in parallel.
        content: the parsed file, if available.

    Raises:
        ValueError: the file is not JSON.
    """
    source = str(json_file)
    content = read_json(source) if content is None else content
    report = HealthReport(source=source)
    report.add(structure(content, source))
    if report.findings:
        return report
    entries = read_entries(content, source, ImageFinder(image_root))
    if num_keypoints is None:
        num_keypoints = common_keypoints(entries.categories)
    report = check_dataset_dicts(
        entries.records,
        len(entries.categories),
        images=images,
        masks=masks,
        num_keypoints=num_keypoints,
        threads=threads,
        source=source,
    )
    report.num_annotations = len(content.get("annotations", []))
    report.findings[:0] = entries.findings
    return report


def common_keypoints(categories: list[dict[str, Any]]) -> int | None:
    """Return the number of keypoints that all categories with keypoints share."""
    named = {
        len(c["keypoints"]) for c in categories if isinstance(c.get("keypoints"), list) and c["keypoints"]
    }
    return named.pop() if len(named) == 1 else None
