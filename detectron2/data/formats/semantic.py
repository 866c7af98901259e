"""Semantic masks: one mask of class numbers per image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from detectron2.structures import BoxMode
from detectron2.structures.rle import encode
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.image_io import READ_ERRORS

from .base import (
    Dataset,
    Format,
    FormatError,
    copy_image,
    images_below,
    open_record,
    read_lines,
    register_format,
    target_names,
)

__all__ = ["instances_of_mask", "read_semantic", "write_semantic"]

_MASK_FOLDERS = ("masks", "semantic", "labels", "annotations", "SegmentationClass")


def _folders(root: Path, images: str | None) -> tuple[Path, Path]:
    masks = next(
        (root / n for n in _MASK_FOLDERS if (root / n).is_dir() and any((root / n).rglob("*.png"))), root
    )
    return Path(images) if images else root / "images", masks


def read_semantic(
    path: str, images: str | None = None, names: Sequence[str] | None = None, ignore_label: int = 255
) -> Dataset:
    """Pair images with masks of class numbers by their names.

    Args:
        path: folder with ``images`` and ``masks`` (or ``semantic``, ``labels``, ``annotations``), or the masks.
        images: folder of the images, if it is elsewhere.
        names: class names; default: ``classes.txt``, else the numbers found.
        ignore_label: value of pixels that belong to no class.

    Raises:
        FormatError: no image has a mask. Masks that do not have the size of their image, have more than one channel,
            or contain a number without a name are listed in ``skipped``.
    """
    root = Path(path)
    image_dir, mask_dir = _folders(root, images)
    pictures, masks = images_below(image_dir), images_below(mask_dir)
    if names is None and (root / "classes.txt").is_file():
        names = [line for _, line in read_lines(root / "classes.txt")]
    dataset = Dataset()
    used: set[int] = set()
    for key, image in pictures.items():
        if key not in masks:
            dataset.skipped.append(f"{image}: no mask {key}.png in {mask_dir}")
            continue
        record = open_record(dataset, image, key)
        if record is None:
            continue
        try:
            values = _check_mask(masks[key], record) - {ignore_label}
            if names is not None and max(values, default=-1) >= len(names):
                raise FormatError(f"{masks[key]}: value {max(values)}, but only {len(names)} classes")
        except (ValueError, *READ_ERRORS) as error:
            dataset.skipped.append(
                f"{masks[key]}: {error}" if str(masks[key]) not in str(error) else str(error)
            )
            continue
        used |= values
        del record["annotations"]
        record["sem_seg_file_name"] = str(masks[key])
        dataset.records.append(record)
    if not dataset.records:
        raise FormatError("\n".join([f"{root}: no image with a mask", *dataset.skipped[:5]]))
    known = list(names) if names is not None else [str(i) for i in range(max(used, default=-1) + 1)]
    dataset.metadata = {"stuff_classes": known, "ignore_label": ignore_label}
    return dataset


def _check_mask(file: Path, record: dict[str, Any]) -> set[int]:
    """Return the values of a mask; raise FormatError if it does not fit its image."""
    with Image.open(file) as image:
        if image.mode not in ("L", "P", "I", "I;16", "1"):
            raise FormatError(
                f"{file}: a mask must have one channel of class numbers, this one is {image.mode}"
            )
        if image.size != (record["width"], record["height"]):
            raise FormatError(
                f"{file}: mask {image.size}, image {(record['width'], record['height'])} (width, height)"
            )
        return set(np.unique(np.asarray(image)).tolist())


def instances_of_mask(mask: npt.NDArray[Any], ignore: Sequence[int] = (0, 255)) -> list[dict[str, Any]]:
    """Convert connected regions of a mask to annotations, to train instances on semantic labels.

    Args:
        mask: [H, W] class numbers.
        ignore: values that are not objects.

    Returns:
        Annotations with ``category_id`` = value, box and RLE.
    """
    try:
        from scipy.ndimage import find_objects, label
    except ImportError as error:
        raise ImportError("connected regions need SciPy: pip install 'detectron2[tracking]'") from error
    found = []
    for value in np.unique(mask).tolist():
        if value in ignore:
            continue
        regions, _ = label(mask == value, structure=np.ones((3, 3)))
        for number, (rows, columns) in enumerate(find_objects(regions), 1):
            box = [float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)]
            found.append(
                {
                    "category_id": int(value),
                    "bbox": box,
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "iscrowd": 0,
                    "segmentation": encode(regions == number),
                }
            )
    return found


def write_semantic(dataset: Dataset, folder: str, copy_images: bool = True) -> None:
    """Write ``masks``, ``classes.txt`` and copies of the images in ``images``.

    Args:
        dataset: records with ``sem_seg_file_name``.
        folder: target folder.
        copy_images: false writes the labels only.
    """
    root = Path(folder)
    for record, name in zip(dataset.records, target_names(dataset)):
        if "sem_seg_file_name" not in record:
            raise FormatError(f"{record['file_name']} has no semantic mask")
        mask = record["sem_seg_file_name"]
        copy_image({"file_name": mask}, root / "masks", name + Path(mask).suffix)
        if copy_images:
            copy_image(record, root / "images", name + Path(record["file_name"]).suffix)
    with atomic_write(root / "classes.txt") as f:
        f.writelines(f"{n}\n" for n in dataset.metadata.get("stuff_classes", ()))


def _detect(path: Path) -> bool:
    return path.is_dir() and (path / "images").is_dir() and _folders(path, None)[1] != path


register_format(
    Format("semantic", "masks of class numbers beside the images", read_semantic, write_semantic, _detect)
)
