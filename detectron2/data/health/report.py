"""Findings of data checks, and reports of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from detectron2.utils.tables import format_table

__all__ = ["KINDS", "DataError", "Finding", "HealthReport", "Kind"]

Severity = Literal["error", "skip", "note"]
Action = Literal["drop-image", "drop-annotation", "drop-polygons", ""]


@dataclass(frozen=True)
class Kind:
    """A kind of defect.

    Attributes:
        severity: ``error``: training must not start; ``skip``: :func:`~detectron2.data.health.repair` leaves it
            out; ``note``: harmless, but worth knowing.
        title: a short description.
        mend: how to fix it.
        action: what is left out for a ``skip``.
    """

    severity: Severity
    title: str
    mend: str
    action: Action = ""


KINDS: dict[str, Kind] = {
    "no-images": Kind("error", "no images at all", "Check that the file lists 'images', or that the folder is right."),
    "no-annotations": Kind(
        "error",
        "no annotations at all",
        "Nothing can be learnt from background alone. Check that the annotations were exported.",
    ),
    "all-images-missing": Kind(
        "error", "none of the image files exists", "Check the image folder: file names are relative to it."
    ),
    "malformed": Kind("error", "not in the expected format", "Compare with the format in docs/data.md."),
    "category-unknown": Kind(
        "error", "category id out of range", "Correct the id, or add the category to 'categories'."
    ),
    "image-id-duplicate": Kind("error", "image id used twice", "Give each image an id of its own."),
    "annotation-id-duplicate": Kind(
        "skip", "annotation id used twice", "Renumber the annotations, as a corrected copy does.", ""
    ),
    "annotation-stray": Kind(
        "skip", "annotation of an image that is not listed", "List the image, or remove the annotation.",
        "drop-annotation",
    ),
    "image-missing": Kind("skip", "image file does not exist", "Restore the file, or remove the image.", "drop-image"),
    "image-broken": Kind(
        "skip", "image file cannot be read, or is cut off", "Copy or download the file again.", "drop-image"
    ),
    "image-size": Kind(
        "skip", "size in the annotations differs from the file",
        "Correct width and height, or find the image that was annotated.", "drop-image",
    ),
    "image-exif": Kind(
        "skip", "size is that of the image before its EXIF rotation",
        "The image is rotated when read, the annotations are not. Rotate the file itself (and remove the EXIF tag), "
        "or annotate the rotated image.",
        "drop-image",
    ),
    "category-id-duplicate": Kind("error", "category id used twice", "Give each category an id of its own."),
    "category-name-duplicate": Kind(
        "note", "several categories with the same name", "They are trained as different classes; merge them if they are one."
    ),
    "label-left-out": Kind("skip", "left out when the labels were read", "Correct it, or accept that it is left out."),
    "label-malformed": Kind(
        "skip", "label that is not in the expected format", "Compare with the format in docs/data.md.",
        "drop-annotation",
    ),
    "label-duplicate": Kind("note", "the same label twice on an image", "Remove one of the two."),
    "value-mended": Kind("note", "value of another type, converted when read", "Nothing has to be done."),
    "image-moved": Kind("note", "image found elsewhere than named", "Check that it is the right one."),
    "image-doubtful": Kind(
        "error", "several images match a name, or several names an image", "Give the folder of the images (--images)."
    ),
    "boxes-kind": Kind("error", "boxes of another kind than the format defines", "Convert them, and check again."),
    "masks-partly": Kind(
        "note", "some labels have an outline, others do not", "A mask model is trained without the latter."
    ),
    "boxes-rotated": Kind(
        "note", "rotated boxes among upright ones", "A model for upright boxes is trained on the boxes around them."
    ),
    "only-crowds": Kind("error", "every label is a crowd region", "Crowd regions are not learnt: set iscrowd to 0."),
    "segment-odd": Kind(
        "skip", "segment that does not fit its label map", "Correct the segment, or recreate the map.", "drop-annotation"
    ),
    "image-size-absent": Kind("note", "width or height missing", "They are read from the file."),
    "image-duplicate": Kind("note", "same file listed twice", "Remove one of the two."),
    "image-unlabelled": Kind(
        "note", "image without annotations", "Left out of training unless DATALOADER.FILTER_EMPTY_ANNOTATIONS is False."
    ),
    "box-missing": Kind("skip", "no box, and no mask to compute it from", "Add bbox.", "drop-annotation"),
    "box-not-finite": Kind("skip", "box with a coordinate that is not a number", "Correct it.", "drop-annotation"),
    "box-empty": Kind("skip", "box without width or height", "Draw it again, or remove it.", "drop-annotation"),
    "box-outside": Kind("skip", "box wholly outside the image", "Correct or remove it.", "drop-annotation"),
    "box-beyond": Kind("note", "box that extends beyond the image", "It is clipped to the image when read."),
    "polygon-short": Kind(
        "skip", "polygon with fewer than 3 points", "Draw it again, or remove it.", "drop-polygons"
    ),
    "polygon-odd": Kind("skip", "polygon with an odd number of coordinates", "Correct it.", "drop-polygons"),
    "polygon-not-finite": Kind(
        "skip", "polygon with a coordinate that is not a number", "Correct it.", "drop-polygons"
    ),
    "polygon-far": Kind(
        "skip", "polygon with a point far outside the image", "Correct it.", "drop-polygons"
    ),
    "mask-broken": Kind("skip", "mask that cannot be read", "Recreate the mask.", "drop-annotation"),
    "mask-size": Kind("skip", "mask of another size than the image", "Recreate the mask.", "drop-annotation"),
    "mask-missing": Kind("note", "annotation without a mask", "It is left out when masks are trained."),
    "keypoints-count": Kind(
        "skip", "wrong number of keypoint values", "Give x, y and visibility of each keypoint.", "drop-annotation"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One defect.

    Attributes:
        kind: key of :data:`KINDS`.
        file: the image, or the annotation file if no image is concerned.
        value: what was found, as text.
        annotation: id of the annotation, or its position in the record if it has none.
        index: position of the record in the list checked; -1 for the whole file.
        position: position of the annotation in its record; -1 for the image.
        part: position of the polygon in the annotation; -1 for all of it.
    """

    kind: str
    file: str
    value: str = ""
    annotation: int | str | None = None
    index: int = -1
    position: int = -1
    part: int = -1

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity

    def __str__(self) -> str:
        where = self.file if self.annotation is None else f"{self.file}, annotation {self.annotation}"
        return f"{where}: {KINDS[self.kind].title}{f' ({self.value})' if self.value else ''}"


class DataError(ValueError):
    """The data cannot be trained on; the message lists what is wrong and how to fix it."""


@dataclass
class HealthReport:
    """All findings of a check.

    Attributes:
        source: what was checked.
        num_images: number of images checked.
        num_annotations: number of annotations checked.
        findings: in the order of the data.
    """

    source: str = ""
    num_images: int = 0
    num_annotations: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> None:
        """Append findings."""
        self.findings.extend(findings)

    def of(self, *severities: Severity) -> list[Finding]:
        """Return the findings of the given severities."""
        return [f for f in self.findings if f.severity in severities]

    @property
    def errors(self) -> list[Finding]:
        """Findings that prevent training."""
        return self.of("error")

    @property
    def skips(self) -> list[Finding]:
        """Findings whose data :func:`~detectron2.data.health.repair` leaves out."""
        return self.of("skip")

    @property
    def ok(self) -> bool:
        """Whether there are no errors; there may be skips and notes."""
        return not self.errors

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind, in the order of :data:`KINDS`."""
        found = Counter(f.kind for f in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def to_text(self, examples: int = 3) -> str:
        """Format the report for people: a table of kinds, then examples of each and how to fix it."""
        head = f"{self.source}: {self.num_images} images, {self.num_annotations} annotations"
        if not self.findings:
            return f"{head}, no defects found"
        by_kind: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            by_kind[finding.kind].append(finding)
        rows = [(KINDS[k].severity, KINDS[k].title, n) for k, n in self.counts().items()]
        lines = [head, format_table(rows, ["", "defect", "number"])]
        for kind in self.counts():
            found = by_kind[kind]
            lines.append(f"{KINDS[kind].severity}: {KINDS[kind].title}. {KINDS[kind].mend}")
            lines += [f"    {f}" for f in found[:examples]]
            if len(found) > examples:
                lines.append(f"    … and {len(found) - examples} more")
        return "\n".join(lines)

    __str__ = to_text

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to plain values, with all findings."""
        return {
            "source": self.source,
            "num_images": self.num_images,
            "num_annotations": self.num_annotations,
            "ok": self.ok,
            "counts": self.counts(),
            "findings": [
                {**asdict(f), "severity": f.severity, "mend": KINDS[f.kind].mend} for f in self.findings
            ],
        }

    def raise_for_errors(self) -> "HealthReport":
        """Raise :class:`DataError` if there are errors; returns itself otherwise."""
        if not self.ok:
            shown = self.errors
            if any(f.kind == "no-annotations" for f in shown):
                shown = [*shown, *self.skips]  # these may be the cause
            kinds = list(dict.fromkeys(f.kind for f in shown))
            parts = []
            for kind in kinds:
                found = [f for f in shown if f.kind == kind]
                listed = "\n".join(f"    {f}" for f in found[:5])
                more = f"\n    … and {len(found) - 5} more" if len(found) > 5 else ""
                parts.append(f"{len(found)} × {KINDS[kind].title}. {KINDS[kind].mend}\n{listed}{more}")
            raise DataError(f"{self.source} cannot be used:\n" + "\n".join(parts))
        return self
