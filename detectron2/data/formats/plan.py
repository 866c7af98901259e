"""Plan the training and validation data: read, check and split them, for ``data check`` and ``train``."""

import os
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..health.check import repair
from ..health.images import ImageCheck
from ..health.report import KINDS, HealthReport
from .api import check_dataset, read_parts, renumber_classes, split_dataset
from .base import Dataset, FormatError
from .pixels import same_pixel_classes

__all__ = [
    "DataPlan",
    "LabelFacts",
    "Source",
    "hold_out",
    "image_groups",
    "label_facts",
    "plan_data",
    "plan_training",
    "plan_validation",
]

HELD_OUT = 0.2  # share of the images used for validation if the data have no validation part


@dataclass(frozen=True)
class Source:
    """Where labels are, as given by a user: path, format, folder of the images, and options of the format."""

    path: str
    format: str | None = None
    images: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelFacts:
    """Number of labels of each kind, without crowd regions.

    Attributes:
        labels: all labels.
        masks: labels with an outline or mask.
        bitmaps: labels whose mask is no outline, such as RLE.
        keypoints: labels with keypoints.
        num_keypoints: keypoints per label.
        rotated: labels with a rotated box.
        panoptic: images with panoptic label maps.
        semantic: images with semantic label maps.
    """

    labels: int = 0
    masks: int = 0
    bitmaps: int = 0
    keypoints: int = 0
    num_keypoints: int = 0
    rotated: int = 0
    panoptic: int = 0
    semantic: int = 0

    @property
    def is_pixels(self) -> bool:
        """Whether the labels are label maps."""
        return bool(self.panoptic or self.semantic)

    def __str__(self) -> str:
        if self.panoptic or self.semantic:
            kind = "panoptic" if self.panoptic else "semantic"
            return f"{kind} label maps ({self.panoptic or self.semantic})"
        kinds = (
            [f"boxes ({self.labels - self.rotated})"] if self.labels > self.rotated or not self.labels else []
        )
        kinds += [f"rotated boxes ({self.rotated})"] if self.rotated else []
        kinds += [f"masks ({self.masks})"] if self.masks else []
        kinds += [f"{self.num_keypoints} keypoints ({self.keypoints})"] if self.keypoints else []
        return ", ".join(kinds)


def label_facts(records: Sequence[Mapping[str, Any]]) -> LabelFacts:
    """Count the kinds of labels of records."""
    labels = [a for r in records for a in r.get("annotations", ()) if not a.get("iscrowd")]
    points = Counter(len(a["keypoints"]) // 3 for a in labels if a.get("keypoints"))
    return LabelFacts(
        labels=len(labels),
        masks=sum(a.get("segmentation") is not None and len(a["segmentation"]) > 0 for a in labels),
        bitmaps=sum(isinstance(a.get("segmentation"), (Mapping, np.ndarray)) for a in labels),
        keypoints=sum(points.values()),
        num_keypoints=points.most_common(1)[0][0] if points else 0,
        rotated=sum(len(a["bbox"]) == 5 for a in labels),
        panoptic=sum("pan_seg_file_name" in r for r in records),
        semantic=sum("sem_seg_file_name" in r for r in records),
    )


@dataclass
class DataPlan:
    """The parts of a data set with the results of their checks.

    Attributes:
        parts: name (``train``, ``val``, ``test``; ``all``) -> data set; in plans for training, only what can be used.
        reports: name -> what the check found.
        origin: text that says where the parts come from.
        notes: additional lines for the user.
    """

    parts: dict[str, Dataset]
    reports: dict[str, HealthReport]
    origin: str = ""
    notes: list[str] = field(default_factory=list)

    def to_text(self) -> str:
        """Describe kinds of labels, classes, folders, parts, and what was left out."""
        first = next(iter(self.parts.values()))
        classes = first.class_names
        shown = ", ".join(classes[:20]) + (f" … ({len(classes)})" if len(classes) > 20 else "")
        facts = label_facts([r for d in self.parts.values() for r in d.records])
        lines = [f"Labels: {facts}", f"Classes ({len(classes)}): {shown}"]
        for name, dataset in self.parts.items():
            labels = sum(len(r.get("annotations", r.get("segments_info", ()))) for r in dataset.records)
            size = f"{dataset.num_images} images in {image_folder(dataset)}"
            if dataset.whole is None:
                lines.append(f"{name}: {size}, {labels} objects")
            else:
                lines.append(
                    f"{name}: {size}, {sum(dataset.whole.labels)} objects, of which {len(dataset.records)} images, evenly "
                    f"spaced, and their {labels} objects were checked; `detectron2 data check` checks all"
                )
        if self.origin:
            lines.append(f"Split: {self.origin}")
        return "\n".join(
            [*lines, *dict.fromkeys([*(n for d in self.parts.values() for n in d.notes), *self.notes])]
        )

    def health(self) -> str:
        """Return the reports of the check as text."""
        return "\n\n".join(r.to_text() for r in self.reports.values())


def image_folder(dataset: Dataset) -> str:
    """Return the folder that has all images of a data set."""
    folders = {os.path.dirname(str(r["file_name"])) for r in dataset.records}
    try:
        return (os.path.commonpath(folders) or ".") if folders else "no folder"
    except ValueError:  # relative and absolute ones
        return ", ".join(sorted(folders)[:3])


def plan_data(source: Source, images: ImageCheck = "header", sample_above: int | None = None) -> DataPlan:
    """Read and check labels with all their parts; everything readable is kept.

    Args:
        source: where the labels are.
        images: how thoroughly image files are checked.
        sample_above: look only at a sample of COCO files with more images.
    """
    parts, origin = read_parts(source.path, source.format, source.images, sample_above, **source.options)
    reports = {}
    for name, dataset in parts.items():
        title = source.path if name == "all" else f"{source.path} ({name})"
        reports[name] = check_dataset(dataset, title, images=images)
    return DataPlan(parts, reports, origin)


def plan_training(
    train: Source, val: Source | None = None, seed: int = 0, sample_above: int | None = None
) -> DataPlan:
    """Read, check and split training and validation data.

    Existing parts are kept: ``train`` is for training, ``val`` for validation, and ``test`` is never used. A fifth of
    the images is held out only if there is no validation part.

    Args:
        train: training data.
        val: validation data; default: taken from the training data.
        seed: decides which images are held out.
        sample_above: look only at a sample of COCO files with more images, unless their labels have to be changed or
            divided.

    Returns:
        A plan with the parts ``train`` and ``val``, without the labels and images that cannot be used.

    Raises:
        DataError: the data cannot be trained on; the message names file, label and value.
        FormatError: labels cannot be read, or training and validation data have different classes.
    """
    found = plan_data(train, sample_above=sample_above)
    name = _role(found, ("train", "all"), train.path)
    parts, reports = {"train": found.parts[name]}, {"train": found.reports[name]}
    origin, unused = found.origin, set(found.parts) - {name}
    if val is not None:
        other = plan_data(val)
        chosen = _judging_part(other)
        parts["val"], reports["val"] = other.parts[chosen], other.reports[chosen]
        _same_kind(parts, train.path, val.path)
        if label_facts(parts["val"].records).is_pixels:
            same_pixel_classes(parts["val"], parts["train"].class_names)
        else:
            renumber_classes(parts["val"], parts["train"].classes, _ids_of(parts["train"]))
        origin = f"{train.path} is trained on, {val.path} validates"
    elif "val" in found.parts:
        unused -= {"val"}
        parts["val"], reports["val"] = found.parts["val"], found.reports["val"]
        origin = f"{found.origin} of {train.path}"
    plan = DataPlan(parts, reports, origin, _left_out(parts, reports))
    for key, report in reports.items():
        report.raise_for_errors()
        parts[key] = _usable(parts[key], report)
    if "val" not in parts or any(d.file is None for d in parts.values()):
        if any(d.whole is not None for d in parts.values()):
            return plan_training(train, val, seed)
    plan.notes += _in_both(parts)
    if "val" not in parts:
        parts["train"], parts["val"], plan.origin = hold_out(parts["train"], train.path, seed)
    if unused:
        plan.notes.append(f"not used: the {' and '.join(sorted(unused))} part of {train.path}")
    return plan


def plan_validation(source: Source, classes: Sequence[str], ids: Sequence[int]) -> DataPlan:
    """Read and check data to evaluate a model with given classes: the validation part, else the test part, else all."""
    found = plan_data(source)
    name = _judging_part(found)
    dataset, report = found.parts[name], found.reports[name].raise_for_errors()
    if label_facts(dataset.records).is_pixels:
        same_pixel_classes(dataset, classes)
    else:
        renumber_classes(dataset, classes, ids)
    plan = DataPlan({"val": dataset}, {"val": report}, found.origin and f"the {name} part of {source.path}")
    plan.notes += _left_out(plan.parts, plan.reports)
    plan.parts["val"] = _usable(dataset, report)
    return plan


def _role(plan: DataPlan, names: Sequence[str], path: str) -> str:
    found = next((n for n in names if n in plan.parts), None)
    if found is None:
        raise FormatError(
            f"{path} has only the part {', '.join(plan.parts)}, expected {' or '.join(names)}: name another folder"
        )
    return found


def _judging_part(plan: DataPlan) -> str:
    """Return the part to use of data that a user gives for validation."""
    return next((n for n in ("val", "test", "all") if n in plan.parts), next(iter(plan.parts)))


def _same_kind(parts: Mapping[str, Dataset], train: str, val: str) -> None:
    kinds = []
    for dataset in (parts["train"], parts["val"]):
        facts = label_facts(dataset.records)
        kinds.append(
            "panoptic label maps" if facts.panoptic else "semantic label maps" if facts.semantic else "boxes"
        )
    if kinds[0] != kinds[1]:
        raise FormatError(
            f"{val} has {kinds[1]}, but {train} has {kinds[0]}: give validation data of the same kind"
        )


def _in_both(parts: Mapping[str, Dataset]) -> list[str]:
    files = [{os.path.realpath(str(r["file_name"])) for r in d.records} for d in parts.values()]
    both = set.intersection(*files) if len(files) > 1 else set()
    return (
        [f"{len(both)} of the validation images are also used in training: the results will look too good"]
        if both
        else []
    )


def _ids_of(dataset: Dataset) -> list[int] | None:
    numbers = dataset.metadata.get("thing_dataset_id_to_contiguous_id")
    return sorted(numbers, key=lambda c: numbers[c]) if numbers else None


def _left_out(parts: Mapping[str, Dataset], reports: Mapping[str, HealthReport]) -> list[str]:
    lines = []
    for name, report in reports.items():
        kinds = Counter(KINDS[f.kind].title for f in report.skips)
        images = len({f.index for f in report.skips if KINDS[f.kind].action == "drop-image" and f.index >= 0})
        if kinds:
            reasons = ", ".join(f"{n} × {k}" for k, n in kinds.items())
            usable = f"{report.num_images - images} of {report.num_images} images are usable"
            lines.append(f"left out of {name}: {reasons}; {usable}")
    return lines


def _usable(dataset: Dataset, report: HealthReport) -> Dataset:
    kept = repair(dataset.records, report)
    whole = len(kept) == len(dataset.records) and all(a is b for a, b in zip(kept, dataset.records))
    return replace(dataset, records=kept, file=dataset.file if whole else None)


# ------------------------------------------------------------------ holding out
_COPIES = re.compile(r"[._](?:jpe?g|png|bmp)?\.?rf\.[0-9a-f]{6,}.*$", re.IGNORECASE)
_WORDS = re.compile(r"[ ._-]*(?:frame|frm|tile|patch|crop|slice|part)s?[ ._-]*\d.*$", re.IGNORECASE)
_NUMBERS = re.compile(r"(?:[ _-]+[xyrc]?\d+)+$", re.IGNORECASE)
_CAMERA = re.compile(r"^(?:img|image|dsc[nf]?|pic|picture|photo|p|pxl|frame|scan|gopr|dji)?$", re.IGNORECASE)


def image_groups(names: Sequence[str]) -> list[list[str]]:
    """Group images by their names (copies, frames of a video, tiles of an image) in several ways, the surest first.

    Args:
        names: file names of the images.

    Returns:
        For each way that finds at least two groups, one of them with several images: the group of each image.
    """

    def by(rule: Callable[[Path], str]) -> list[str]:
        return [rule(Path(n)) for n in names]

    def numbered(path: Path) -> str:
        stem = _COPIES.sub("", path.stem)
        if stem.isdigit():
            return f"{path.parent}/"
        base = _NUMBERS.sub("", stem)
        return stem if _CAMERA.match(base) else f"{path.parent}/{base}"

    found = [
        by(lambda p: f"{p.parent}/{_WORDS.sub('', _COPIES.sub('', p.stem))}"),
        by(numbered),
    ]
    return [g for g in found if 1 < len(set(g)) < len(g)]


def hold_out(dataset: Dataset, source: str, seed: int = 0) -> tuple[Dataset, Dataset, str]:
    """Hold out a fifth of the images, keeping images together whose names belong together.

    Args:
        dataset: data to divide.
        source: its name, for errors.
        seed: decides which images are held out.

    Returns:
        Training data, validation data, and a text that says how they were divided.
    """
    if len(dataset.records) < 2:
        raise FormatError(
            f"{source} has {len(dataset.records)} usable image, so none can be held out; give --val"
        )
    for groups in image_groups([str(r["file_name"]) for r in dataset.records]):
        for attempt in range(20):
            train, val = _by_groups(dataset, groups, seed + attempt)
            if _sensible(train, val, dataset):
                text = (
                    f"{len(val.records)} of {len(dataset.records)} images of {source} held out at random (seed {seed}), by "
                    f"{len(set(groups))} groups of names such as {Path(groups[0]).name or groups[0]!r}"
                )
                return train, val, text
    parts = split_dataset(dataset, {"train": 1 - HELD_OUT, "val": HELD_OUT}, seed=seed)
    records = [parts["train"].records, parts["val"].records]
    for few, many in (records, records[::-1]):
        if not few:
            few.append(many.pop())
    train, val = (replace(dataset, records=r, file=None) for r in records)
    count = f"{len(val.records)} of {len(dataset.records)}"
    return train, val, f"{count} images of {source} held out at random (seed {seed}), image by image"


def _by_groups(dataset: Dataset, groups: Sequence[str], seed: int) -> tuple[Dataset, Dataset]:
    """Hold out whole groups in random order, as long as they fit into the share; at least one."""
    sizes = Counter(groups)
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    held = {order[0]}
    for group in order[1:]:
        if sum(sizes[g] for g in held) + sizes[group] <= HELD_OUT * len(groups):
            held.add(group)
    train = [r for r, g in zip(dataset.records, groups) if g not in held]
    val = [r for r, g in zip(dataset.records, groups) if g in held]
    return replace(dataset, records=train, file=None), replace(dataset, records=val, file=None)


def _sensible(train: Dataset, val: Dataset, whole: Dataset) -> bool:
    """Return whether training keeps all classes, and the held-out share is neither too small nor too large."""

    def classes(dataset: Dataset) -> set[int]:
        return {a["category_id"] for r in dataset.records for a in r.get("annotations", ())}

    return classes(train) == classes(whole) and 0.05 <= len(val.records) / len(whole.records) <= 0.5
