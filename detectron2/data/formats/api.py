"""The door to all formats: find out, read, check, convert, split, register."""

import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..catalog import DatasetCatalog, MetadataCatalog
from ..health.check import HealthReport, check_dataset_dicts
from .base import FORMATS, Dataset, Format, FormatError

__all__ = [
    "check_dataset",
    "convert_dataset",
    "detect_format",
    "read_dataset",
    "register_dataset",
    "split_dataset",
    "write_dataset",
]

# Formats that are recognised by a content come before those that are recognised by a folder alone.
_ORDER = ("huggingface", "coco_panoptic", "coco", "cvat", "voc", "labelme", "dota", "yolo", "semantic")


def detect_format(path: str | os.PathLike[str]) -> str:
    """Find out which format the labels at a path have.

    Raises:
        FileNotFoundError: nothing is there.
        FormatError: no format fits.
    """
    where = Path(path)
    if not where.exists():
        raise FileNotFoundError(f"{where} does not exist")
    formats: list[Format] = [fmt for _, fmt in FORMATS]
    for fmt in sorted(formats, key=lambda f: _ORDER.index(f.name) if f.name in _ORDER else len(_ORDER)):
        if fmt.detect(where):
            return fmt.name
    known = "\n".join(f"  {fmt.name}: {fmt.title}" for fmt in formats)
    raise FormatError(f"{where} fits no known label format. Name one of:\n{known}")


def read_dataset(
    path: str | os.PathLike[str], format: str | None = None, images: str | None = None, **options: object
) -> Dataset:
    """Read labels of any known format.

    Args:
        path: file or folder.
        format: name of the format; default: found out.
        images: folder of the images, if it is not where the format has it.
        **options: of the format, such as ``task`` of ``yolo``.

    Raises:
        FormatError: the labels do not follow the format.
    """
    fmt: Format = FORMATS.get(format or detect_format(path))
    return fmt.read(os.fspath(path), images=images, **options)


def write_dataset(dataset: Dataset, folder: str | os.PathLike[str], format: str, **options: object) -> None:
    """Write labels, and copies of the images, in a format.

    Args:
        dataset: what to write; what the format cannot hold is added to its ``skipped``.
        folder: where to; must be empty or absent.
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
        raise FileExistsError(f"{target} is not empty: nothing is overwritten, name another folder")
    target.mkdir(parents=True, exist_ok=True)
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
        The data set, whose ``skipped`` names what was lost on the way.
    """
    dataset = read_dataset(source, format, **read_options)
    write_dataset(dataset, target, to)
    return dataset


def check_dataset(dataset: Dataset, source: str = "data set", **kwargs: Any) -> HealthReport:
    """Return the health report of a data set; see :func:`~detectron2.data.health_dataset_dicts`."""
    names = dataset.metadata.get("keypoint_names")
    kwargs.setdefault("num_keypoints", len(names) if names else None)
    classes = len(dataset.classes) if "thing_classes" in dataset.metadata else None
    return check_dataset_dicts(dataset.records, classes, source=source, **kwargs)


def register_dataset(
    name: str, path: str | os.PathLike[str], format: str | None = None, **options: Any
) -> None:
    """Give a name to labels of any known format; they are read when the data set is first used.

    Args:
        name: for instance ``"parts_train"``.
        path: file or folder.
        format: name of the format; default: found out when the data are read.
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
    """Distribute the images over splits so that each class is divided as asked.

    Images with the rarest classes are dealt first, each to the split that lacks most of its class (iterative
    stratification). The same seed gives the same split.

    Args:
        dataset: what to split.
        shares: name -> share, for instance ``{"train": 0.8, "val": 0.2}``; only proportions matter.
        seed: of the order among equals.
        groups: one value per record; records of one group stay together (frames of one video, tiles of one picture).

    Returns:
        One data set per share, records in their old order.

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
        # -1 is no class: images without annotations go where there is most room.
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
