"""Detect, read, check, convert, split and register labels of any format."""

import contextlib
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from ..catalog import DatasetCatalog, MetadataCatalog
from ..health.annotations import without_defects
from ..health.check import check_dataset_dicts
from ..health.report import Finding, HealthReport
from .base import FORMATS, Dataset, Format, FormatError, box_of_segmentation
from .layout import detect_format, find_layout

__all__ = [
    "check_dataset",
    "convert_dataset",
    "detect_format",
    "merged",
    "read_dataset",
    "read_parts",
    "register_dataset",
    "renumber_classes",
    "split_dataset",
    "write_dataset",
]

_WITH_KEYPOINTS = ("coco", "yolo")

# What readers raise for a file of the right kind with unexpected content.
_ODD = (KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)


def read_parts(
    path: str | os.PathLike[str],
    format: str | None = None,
    images: str | None = None,
    sample_above: int | None = None,
    **options: object,
) -> tuple[dict[str, Dataset], str]:
    """Read labels of any known format, keeping their division into parts.

    Args:
        path: file or folder.
        format: name of the format; default: detected.
        images: folder of the images, if it is not where the format expects it.
        sample_above: read only a sample of COCO files with more images; None reads all.
        **options: of the format, such as ``task`` of ``yolo``.

    Returns:
        The parts by name (``train``, ``val``, ``test``; ``all`` if there are none), all with the same classes; and a
        text that says where the parts come from. Labels that training cannot use are left out of the records and
        listed in ``findings``.

    Raises:
        FormatError: the labels do not follow the format.
    """
    with _named(Path(path)):
        layout = find_layout(path, format)
    if sample_above is not None and layout.format.name == "coco":
        options["sample_above"] = sample_above
    parts = {}
    for name, (where, more) in layout.parts.items():
        pictures = images
        if images and len(layout.parts) > 1 and (Path(images) / where.name).is_dir():
            pictures = str(Path(images) / where.name)
        parts[name] = _read(layout.format, where, images=pictures, **{**more, **options})
        parts[name].notes += layout.notes
    _share_classes(parts)
    return parts, layout.origin


def _read(fmt: Format, where: Path, **options: object) -> Dataset:
    with _named(where):
        return _sound(fmt.read(os.fspath(where), **options), str(where))


@contextlib.contextmanager
def _named(where: Path) -> Iterator[None]:
    """Convert errors of readers to a FormatError that names the file."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        raise FormatError(text if str(where) in text else f"{where}: {text}") from error
    except _ODD as error:
        raise FormatError(f"{where} does not follow the format: {error!r}") from error


def _sound(dataset: Dataset, source: str) -> Dataset:
    """Leave out the labels that cannot be used, and keep their findings."""
    classes = len(dataset.classes) if "thing_classes" in dataset.metadata else None
    names = dataset.metadata.get("keypoint_names")
    report = check_dataset_dicts(
        dataset.records, classes, images="none", num_keypoints=len(names) if names else None, source=source
    )
    # Of the findings about the whole set, only boxes of another kind are kept; the check repeats the others.
    bad = [f for f in report.findings if f.severity in ("error", "skip") and f.position >= 0]
    bad += [f for f in report.findings if f.kind == "boxes-kind"]
    dataset.findings += [f for f in bad if f not in dataset.findings]
    drop = [f for f in bad if f.position >= 0]
    if drop:
        dataset.file = None
    by_record: dict[int, list[Finding]] = {}
    for f in drop:
        by_record.setdefault(f.index, []).append(f)
    for index, found in by_record.items():
        record = dataset.records[index]
        key = "annotations" if "annotations" in record else "segments_info"
        record[key] = without_defects(record[key], found)
    for record in dataset.records:
        for anno in record.get("annotations", ()):
            if not anno.get("bbox"):
                anno |= {"bbox": box_of_segmentation(anno, record), "bbox_mode": BoxMode.XYXY_ABS}
    return dataset


def _share_classes(parts: Mapping[str, Dataset]) -> None:
    """Give all parts the same classes: those of the longest list, then those that only others have."""
    lists = [d.classes for d in parts.values()]
    if all(names == lists[0] for names in lists):
        return
    longest = max(lists, key=len)
    union = list(dict.fromkeys([*longest, *(n for names in lists for n in names)]))
    if all(names == sorted(names) for names in lists):
        union.sort()
    for dataset in parts.values():
        renumber_classes(dataset, union)


def renumber_classes(dataset: Dataset, names: Sequence[str], ids: Sequence[int] | None = None) -> None:
    """Give a data set the classes of another, matched by name.

    Args:
        dataset: changed in place.
        names: the new classes; each class with a label must be among them.
        ids: category ids of the classes; default: those of the data set, if it has one for each.

    Raises:
        FormatError: a label is of a class that is not among the names.
    """
    own = dataset.classes
    known = dataset.metadata.get("thing_dataset_id_to_contiguous_id", {})
    of_name = {own[i]: number for number, i in known.items()}
    if ids is None and set(names) <= set(of_name):
        ids = [of_name[n] for n in names]
    numbers = {n: i for i, n in enumerate(names)}
    for record in dataset.records:
        for anno in record.get("annotations", ()):
            name = own[anno["category_id"]]
            if name not in numbers:
                raise FormatError(
                    f"{record['file_name']} has a label of class {name!r}, which is not among {', '.join(names)}"
                )
            anno["category_id"] = numbers[name]
    if [of_name.get(n) for n in names] != list(ids or ()) or len(own) != len(names):
        dataset.file = None
    dataset.metadata["thing_classes"] = list(names)
    if ids is None:
        dataset.metadata.pop("thing_dataset_id_to_contiguous_id", None)
    else:
        dataset.metadata["thing_dataset_id_to_contiguous_id"] = {c: i for i, c in enumerate(ids)}


def read_dataset(
    path: str | os.PathLike[str],
    format: str | None = None,
    images: str | None = None,
    part: str | None = None,
    **options: object,
) -> Dataset:
    """Read labels of any known format.

    Args:
        path: file or folder.
        format: name of the format; default: detected.
        images: folder of the images, if it is not where the format expects it.
        part: ``train``, ``val`` or ``test`` of labels that come in parts; default: all parts, merged.
        **options: of the format, such as ``task`` of ``yolo``.

    Raises:
        FormatError: the labels do not follow the format.
    """
    parts, _ = read_parts(path, format, images, None, **options)
    if part is not None:
        if part not in parts:
            raise FormatError(f"{path} has no part {part!r}, only {', '.join(parts)}")
        return parts[part]
    return merged(list(parts.values()))


def merged(parts: Sequence[Dataset]) -> Dataset:
    """Merge parts with the same classes into one data set."""
    if len(parts) == 1:
        return parts[0]
    whole = Dataset(metadata=dict(parts[0].metadata))
    for part in parts:
        whole.records += part.records
        whole.skipped += part.skipped
        whole.findings += part.findings
        whole.notes += [n for n in part.notes if n not in whole.notes]
    ids = [r.get("image_id") for r in whole.records]
    if len(set(ids)) < len(ids):
        whole.records = [{**r, "image_id": n} for n, r in enumerate(whole.records, 1)]
    return whole


def write_dataset(dataset: Dataset, folder: str | os.PathLike[str], format: str, **options: object) -> None:
    """Write labels, and copies of the images, in a format.

    Args:
        dataset: data to write; what the format cannot represent is added to its ``skipped``.
        folder: target folder; must be empty or absent.
        format: name of the format.
        **options: of the format.

    Raises:
        FileExistsError: the folder has files.
    """
    fmt: Format = FORMATS.get(format)
    if fmt.write is None:
        raise FormatError(f"format {format!r} can only be read")
    target = Path(folder)
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty and is not overwritten: name another folder")
    target.mkdir(parents=True, exist_ok=True)
    with_keypoints = sum("keypoints" in a for r in dataset.records for a in r.get("annotations", ()))
    if with_keypoints and format not in _WITH_KEYPOINTS:
        dataset.skipped.append(
            f"{target}: {format} is written without the keypoints of {with_keypoints} labels"
        )
    fmt.write(dataset, str(target), **options)


def convert_dataset(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: str,
    format: str | None = None,
    **read_options: Any,
) -> Dataset:
    """Read labels in one format and write them in another.

    Returns:
        The data set, whose ``skipped`` lists what was lost.
    """
    dataset = read_dataset(source, format, **read_options)
    write_dataset(dataset, target, to)
    return dataset


def check_dataset(dataset: Dataset, source: str = "data set", **kwargs: Any) -> HealthReport:
    """Return the health report of a data set: what its reader left out, and the defects of its records.

    Args:
        dataset: data to check.
        source: name of the data in the report.
        **kwargs: of :func:`~detectron2.data.health.check_dataset_dicts`.
    """
    names = dataset.metadata.get("keypoint_names")
    kwargs.setdefault("num_keypoints", len(names) if names else None)
    classes = len(dataset.classes) if "thing_classes" in dataset.metadata else None
    report = check_dataset_dicts(dataset.records, classes, source=source, **kwargs)
    before = [*dataset.findings, *(Finding("label-left-out", line) for line in dataset.skipped)]
    known = any(f.kind == "boxes-kind" for f in before)
    report.findings = [*before, *(f for f in report.findings if not (known and f.kind == "boxes-kind"))]
    return report


def register_dataset(
    name: str, path: str | os.PathLike[str], format: str | None = None, **options: Any
) -> None:
    """Register labels of any known format as a data set; they are read on first use.

    Args:
        name: for example ``"parts_train"``.
        path: file or folder.
        format: name of the format; default: detected when the data are read.
        **options: of :func:`read_dataset`.
    """

    def load() -> list[dict[str, Any]]:
        dataset = read_dataset(path, format, **options)
        MetadataCatalog.get(name).set(**dataset.metadata)
        return dataset.records

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).evaluator_type = "coco"


def split_dataset(
    dataset: Dataset, shares: Mapping[str, float], seed: int = 0, groups: Sequence[Any] | None = None
) -> dict[str, Dataset]:
    """Split the images so that each class is divided in the same proportions.

    Images with the rarest classes are assigned first, each to the split that lacks most of its class (iterative
    stratification). The same seed gives the same split.

    Args:
        dataset: data to split.
        shares: name -> share, for example ``{"train": 0.8, "val": 0.2}``; only proportions matter.
        seed: decides the order among images of equal rarity.
        groups: one value per record; records of one group stay together (frames of one video, tiles of one image).

    Returns:
        One data set per share, records in their original order.

    Reference: On the Stratification of Multi-label Data, https://doi.org/10.1007/978-3-642-23808-6_10
    """
    if not shares or any(v <= 0 for v in shares.values()):
        raise ValueError(f"shares must be positive, got {dict(shares)}")
    units = _units(dataset.records, groups)
    total = sum(shares.values())
    classes = [Counter(c for i in unit for c in _classes(dataset.records[i])) for unit in units]
    size = Counter(c for unit in classes for c in unit.elements())
    wanted = {s: {c: n * v / total for c, n in size.items()} for s, v in shares.items()}
    room = {s: len(dataset.records) * v / total for s, v in shares.items()}
    order = list(range(len(units)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda u: min((size[c] for c in classes[u]), default=len(dataset.records) * 1000))
    target: dict[int, str] = {}
    for u in order:
        # Images without annotations (-1) go where there is most room.
        rarest = min(classes[u], key=lambda c: size[c], default=-1)
        need = {s: (wanted[s].get(rarest, 0.0), room[s]) for s in shares}
        best = max(shares, key=lambda s: need[s])
        for i in units[u]:
            target[i] = best
        room[best] -= len(units[u])
        for c, n in classes[u].items():
            wanted[best][c] -= n
    return {
        s: Dataset([r for i, r in enumerate(dataset.records) if target[i] == s], dict(dataset.metadata))
        for s in shares
    }


def _classes(record: Mapping[str, Any]) -> list[int]:
    return [a["category_id"] for a in record.get("annotations", record.get("segments_info", ()))]


def _units(records: Sequence[Any], groups: Sequence[Any] | None) -> list[list[int]]:
    if groups is None:
        return [[i] for i in range(len(records))]
    if len(groups) != len(records):
        raise ValueError(f"{len(records)} records need as many groups, got {len(groups)}")
    members: dict[Any, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    return list(members.values())
