"""What all formats have in common: a table of readers and writers."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.structures import BoxMode
from detectron2.structures.rle import to_mask
from detectron2.structures.types import Segmentation
from detectron2.utils.image_io import IMAGE_SUFFIXES, image_size
from detectron2.utils.registry import Registry

__all__ = [
    "FORMATS",
    "Dataset",
    "Format",
    "FormatError",
    "bbox_xyxy",
    "images_below",
    "polygons_of",
    "register_format",
]


class FormatError(ValueError):
    """A label file does not follow its format; the message names file, line or element, and value."""


@dataclass
class Dataset:
    """Records with what belongs to all of them.

    Attributes:
        records: in the package's format, with absolute or caller-relative file names.
        metadata: ``thing_classes``, ``stuff_classes``, ``keypoint_names``, ``keypoint_flip_map`` … as far as the
            format says them.
        skipped: what could not be taken over, as texts that name file and reason.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Names of the things."""
        return list(self.metadata.get("thing_classes", []))


@dataclass(frozen=True)
class Format:
    """A label format.

    Attributes:
        name: what the user calls it.
        title: what it is, in a few words.
        read: ``(path, images=None, **options) -> Dataset``.
        write: ``(dataset, folder, **options) -> None``, or None for formats that are only read.
        detect: whether a path looks like this format.
    """

    name: str
    title: str
    read: Callable[..., Dataset]
    write: Callable[..., None] | None
    detect: Callable[[Path], bool]


FORMATS = Registry("label format")
"""Label formats by name; see :class:`Format`."""


def register_format(fmt: Format) -> Format:
    """Add a format to the table.

    Raises:
        ValueError: the name is taken.
    """
    return FORMATS.register(fmt, name=fmt.name)


# ------------------------------------------------------------------ images
def images_below(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Find the images below a folder: relative path without suffix -> path, sorted.

    Raises:
        FormatError: two images differ only in their ending, so that a label could belong to either.
    """
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            key = path.relative_to(folder).with_suffix("").as_posix()
            if key in found:
                raise FormatError(
                    f"{found[key]} and {path} differ only in their ending: labels cannot tell them apart"
                )
            found[key] = path
    return found


def find_image(folder: Path, name: str) -> Path | None:
    """Find an image by the name in a label file: as is, by its last part, or with another suffix."""
    for candidate in (folder / name, folder / Path(name.replace("\\", "/")).name):
        if candidate.is_file():
            return candidate
        for ending in IMAGE_SUFFIXES:
            other = candidate.with_suffix(ending)
            if other.is_file():
                return other
    return None


def new_record(
    path: str | os.PathLike[str], image_id: int | str, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Return a record without annotations, its size read from the image if it is not given."""
    height, width = size or image_size(path)
    return {"file_name": str(path), "image_id": image_id, "height": height, "width": width, "annotations": []}


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
    """Compute the corners of a rotated box (centre x, centre y, width, height, degrees counter-clockwise), [4, 2].

    In clockwise order on the screen, from the corner that is top left at an angle of 0.
    """
    x, y, w, h, angle = (float(v) for v in box)
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    unit = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * [w, h]
    # y points down, so that a turn counter-clockwise on the screen has the sines swapped.
    return unit @ np.array([[c, -s], [s, c]]) + [x, y]


def rotated_box_of(corners: npt.NDArray[np.float64]) -> list[float]:
    """Invert :func:`rotated_corners`; a general quadrangle becomes the box with its mean sides."""
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


def polygons_of(segmentation: Segmentation, height: int, width: int) -> list[list[float]]:
    """Convert any segmentation to polygons; outlining masks needs OpenCV and fills their holes."""
    if isinstance(segmentation, list):
        return [[float(v) for v in p] for p in segmentation]
    try:
        import cv2
    except ImportError as error:
        raise ImportError("polygons from masks need OpenCV: pip install 'detectron2[viz]'") from error
    mask = to_mask(segmentation, height, width).astype(np.uint8)
    # OpenCV's outlines run through the pixels of the border. At twice the size, even numbers are the left and upper
    # halves of pixels and odd ones the right and lower halves: rounded outwards, they give the edges of the pixels.
    big = np.kron(mask, np.ones((2, 2), np.uint8))
    outlines = cv2.findContours(big, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2]
    edges = [((o.reshape(-1, 2) + 1) // 2).astype(float) for o in outlines]
    return [_without_straight(e).reshape(-1).tolist() for e in edges if len(_without_straight(e)) >= 3]


def _without_straight(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a closed outline without repeated points and points on a straight line between their neighbours."""
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers, without empty ones."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no text file in UTF-8: {error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def target_names(dataset: Dataset) -> list[str]:
    """Choose a file name without suffix for each record that no other record has."""
    taken: dict[str, int] = {}
    names = []
    for record in dataset.records:
        stem = Path(str(record["file_name"])).stem
        taken[stem] = taken.get(stem, 0) + 1
        names.append(stem if taken[stem] == 1 else f"{stem}_{taken[stem]}")
    return names
