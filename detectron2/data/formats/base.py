"""The registry of label formats, and helpers of their readers and writers."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.structures import BoxMode
from detectron2.structures.rle import mask_box, to_mask
from detectron2.structures.types import Segmentation
from detectron2.utils.file_io.text import read_text
from detectron2.utils.image_io import IMAGE_SUFFIXES, READ_ERRORS, image_size
from detectron2.utils.registry import Registry

from ..health.report import Finding
from ..image_finder import ImageFinder, composed, files_below

__all__ = [
    "FORMATS",
    "Dataset",
    "Format",
    "FormatError",
    "Whole",
    "bbox_xyxy",
    "images_below",
    "polygons_of",
    "register_format",
]


class FormatError(ValueError):
    """A label file does not follow its format; the message names file, line or element, and value."""


@dataclass(frozen=True)
class Whole:
    """A file of which only a sample was read.

    Attributes:
        images: number of its images.
        labels: number of its labels of each class.
    """

    images: int
    labels: list[int]


@dataclass
class Dataset:
    """Records and their metadata.

    Attributes:
        records: in the package's format; file names are absolute or relative to the working directory.
        metadata: ``thing_classes``, ``stuff_classes``, ``keypoint_names``, ``keypoint_flip_map`` … if the format
            has them.
        skipped: what could not be read or written, as texts that name file and reason.
        findings: defects that the reader found, reported together with those that the check finds in the records.
        notes: remarks for the user on how the data were found.
        file: a COCO file with the same content as the records, so that none needs to be written.
        whole: the file, if the records are only a sample of it.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    file: str | None = None
    whole: Whole | None = None

    @property
    def num_images(self) -> int:
        """Number of images, of the file if only a sample of it was read."""
        return len(self.records) if self.whole is None else self.whole.images

    @property
    def classes(self) -> list[str]:
        """Names of the thing classes."""
        return list(self.metadata.get("thing_classes", []))

    @property
    def class_names(self) -> list[str]:
        """Names of all classes; those of semantic label maps if there are no things."""
        return self.classes or list(self.metadata.get("stuff_classes", []))


@dataclass(frozen=True)
class Format:
    """A label format.

    Attributes:
        name: of the format, as users write it.
        title: a short description.
        read: ``(path, images=None, **options) -> Dataset``.
        write: ``(dataset, folder, **options) -> None``, or None for formats that are only read.
        detect: whether a path looks like this format.
        parts: parts that the labels at a path declare: name (``train``, ``val``, ``test``) -> options of ``read``;
            empty if there are none.
    """

    name: str
    title: str
    read: Callable[..., Dataset]
    write: Callable[..., None] | None
    detect: Callable[[Path], bool]
    parts: Callable[[Path], Mapping[str, Mapping[str, Any]]] = lambda path: {}


FORMATS = Registry("label format")
"""Label formats by name; see :class:`Format`."""


def register_format(fmt: Format) -> Format:
    """Add a format to :data:`FORMATS`.

    Raises:
        ValueError: the name is taken.
    """
    return FORMATS.register(fmt, name=fmt.name)


# ------------------------------------------------------------------ parts
_ROLES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def role_of(name: str) -> str | None:
    """Return the part that a file or folder name contains: ``train``, ``val`` or ``test``; None for none or several.

    ``instances_train2017``, ``valid``, ``_annotations_test`` and ``Train`` contain one, ``training_notes_test`` two.
    """
    words = set(re.findall("[a-z]+", name.lower()))
    found = [role for role, names in _ROLES.items() if words & set(names)]
    return found[0] if len(found) == 1 else None


def keypoint_metadata(names: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of keypoints; those whose names differ in left and right are swapped by mirroring."""
    pairs = [
        (n, o)
        for n in names
        if "left" in n.lower()
        for o in names
        if o.lower() == n.lower().replace("left", "right")
    ]
    pairs += [(n, "r" + n[1:]) for n in names if n.startswith("l_") and "r" + n[1:] in names]
    return {"keypoint_names": list(names), "keypoint_flip_map": pairs}


# ------------------------------------------------------------------ images
def images_below(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Find the images below a folder: relative path without suffix, in composed letters -> path, sorted.

    Raises:
        FormatError: two images differ only in their extension or in the form of their letters, so that a label could
            belong to either.
    """
    found: dict[str, Path] = {}
    for path in files_below(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            key = composed(path.relative_to(folder).with_suffix("").as_posix())
            if key in found:
                raise FormatError(
                    f"{found[key]} and {path} differ only in their extension, or in composed and decomposed "
                    "letters: labels cannot tell them apart"
                )
            found[key] = path
    return dict(sorted(found.items()))


def new_record(path: str | os.PathLike[str], image_id: int | str) -> dict[str, Any]:
    """Return a record without annotations, its size read from the image."""
    height, width = image_size(path)
    return {"file_name": str(path), "image_id": image_id, "height": height, "width": width, "annotations": []}


def open_record(dataset: Dataset, path: str | os.PathLike[str], image_id: int | str) -> dict[str, Any] | None:
    """Return :func:`new_record`; None for a broken image, which is listed in ``findings``."""
    try:
        return new_record(path, image_id)
    except (*READ_ERRORS, ValueError) as error:
        dataset.findings.append(Finding("image-broken", str(path), f"{type(error).__name__}: {error}"[:200]))
        return None


def copy_image(record: Mapping[str, Any], folder: Path, name: str) -> None:
    """Copy the image of a record to a folder, which is created if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(record["file_name"], folder / name)


def sub_folder(root: Path, names: Sequence[str]) -> Path | None:
    """Return the sub-folder that has the first of the names possible, ignoring case."""
    try:
        found = {d.name.lower(): d for d in sorted(root.iterdir(), reverse=True) if d.is_dir()}
    except OSError:
        return None
    return next((found[n] for n in names if n in found), None)


def note_images(dataset: Dataset, finder: ImageFinder, source: str | os.PathLike[str]) -> None:
    """Add findings for images found elsewhere than named, and for names that several images match."""
    for name, path in finder.moved.items():
        dataset.findings.append(Finding("image-moved", str(source), f"{name} is {path}"))
    for name, paths in finder.doubtful.items():
        shown = ", ".join(map(str, paths[:5]))
        dataset.findings.append(Finding("image-doubtful", str(source), f"{name}: {shown}"))


# ------------------------------------------------------------------ shapes
def bbox_xyxy(anno: Mapping[str, Any]) -> list[float]:
    """Return the upright box of an annotation as XYXY; for a rotated one, the box around it."""
    box = [float(v) for v in anno["bbox"]]
    if len(box) == 5:
        corners = rotated_corners(box)
        return [*corners.min(0).tolist(), *corners.max(0).tolist()]
    mode = BoxMode(anno.get("bbox_mode", BoxMode.XYXY_ABS))
    return [float(v) for v in BoxMode.convert(box, mode, BoxMode.XYXY_ABS)]


def rotated_corners(box: Sequence[float]) -> npt.NDArray[np.float64]:
    """Compute the corners [4, 2] of a rotated box (centre x, centre y, width, height, degrees counter-clockwise).

    They are in clockwise order on the screen, starting from the corner that is top left at an angle of 0.
    """
    x, y, w, h, angle = (float(v) for v in box)
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    unit = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * [w, h]
    # y points down, so that a counter-clockwise rotation on the screen has its sines swapped.
    return unit @ np.array([[c, -s], [s, c]]) + [x, y]


def rotated_box_of(corners: npt.NDArray[np.float64]) -> list[float]:
    """Invert :func:`rotated_corners`; a general quadrilateral becomes the box with its mean side lengths."""
    p = np.asarray(corners, dtype=np.float64).reshape(4, 2)
    top, bottom, left, right = p[1] - p[0], p[2] - p[3], p[3] - p[0], p[2] - p[1]
    width = (np.hypot(*top) + np.hypot(*bottom)) / 2
    height = (np.hypot(*left) + np.hypot(*right)) / 2
    along = top + bottom
    angle = -float(np.rad2deg(np.arctan2(along[1], along[0])))
    x, y = p.mean(0)
    return [float(x), float(y), float(width), float(height), angle]


def box_of_points(points: npt.ArrayLike) -> list[float]:
    """Return the XYXY box around points."""
    p = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return [*p.min(0).tolist(), *p.max(0).tolist()]


def box_of_segmentation(anno: Mapping[str, Any], record: Mapping[str, Any]) -> list[float]:
    """Return the XYXY box around the segmentation of an annotation without a box."""
    segmentation = anno["segmentation"]
    if isinstance(segmentation, list):
        return box_of_points(
            np.concatenate([np.reshape(np.asarray(p, float), (-1, 2)) for p in segmentation])
        )
    x, y, w, h = mask_box(to_mask(segmentation, record["height"], record["width"]))
    return [x, y, x + w, y + h]


def polygons_of(segmentation: Segmentation, height: int, width: int) -> list[list[float]]:
    """Convert any segmentation to polygons; masks need OpenCV and lose their holes."""
    if isinstance(segmentation, list):
        return [[float(v) for v in p] for p in segmentation]
    try:
        import cv2
    except ImportError as error:
        raise ImportError("polygons from masks need OpenCV: pip install 'detectron2[viz]'") from error
    mask = to_mask(segmentation, height, width).astype(np.uint8)
    # OpenCV's outlines run through the centres of border pixels. At twice the size, even coordinates are the left and
    # upper halves of pixels and odd ones the right and lower halves: rounded outwards, they are the pixels' edges.
    big = np.kron(mask, np.ones((2, 2), np.uint8))
    outlines = cv2.findContours(big, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2]
    edges = [((o.reshape(-1, 2) + 1) // 2).astype(float) for o in outlines]
    return [_without_straight(e).reshape(-1).tolist() for e in edges if len(_without_straight(e)) >= 3]


def _without_straight(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a closed outline without repeated points or points on a straight line between their neighbours."""
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a text file, without empty ones."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def target_names(dataset: Dataset) -> list[str]:
    """Choose a file name without suffix for each record, all different even if case is ignored."""
    stems = [Path(str(record["file_name"])).stem for record in dataset.records]
    taken = {stem.lower() for stem in stems}
    used: set[str] = set()
    names = []
    for stem in stems:
        name, number = stem, 1
        while name.lower() in used or (number > 1 and name.lower() in taken):
            number += 1
            name = f"{stem}_{number}"
        used.add(name.lower())
        names.append(name)
    return names
